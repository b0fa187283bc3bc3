"use strict";
(() => {
  /* Every field that is read of /status stands in this table, and a test looks each one up. */
  const FIELDS = JSON.parse(document.getElementById("fields").textContent);
  const POLL_MS = 2000, POLL_MAX_MS = 30000, ANSWER_MS = 5000, HISTORY_S = 900, BUCKETS = 30;
  const WINDOWS_S = [120, 300, HISTORY_S];
  const ROWS_MAX = 100, SALTS_MAX = 10;

  const $ = (id) => document.getElementById(id);
  /* Texts come from clients, too: they are put in as text and never as HTML. */
  const put = (node, text) => { if (node.textContent !== text) node.textContent = text; };
  const show = (node, is) => { if (node.hidden === is) node.hidden = !is; };
  const kind = (node, name) => { const all = "pill " + name; if (node.className !== all) node.className = all; };
  const cell = (row, name) => row.querySelector(`[data-cell="${name}"]`);

  /* ---- Reading. */
  const at = (value, path) => path.split(".").reduce((inner, name) => inner?.[name], value);
  const pick = (value, fields) =>
    Object.fromEntries(Object.entries(fields).map(([name, path]) => [name, at(value, path)]));
  const pickList = (value, list) => at(value, list.at)?.map((each) => pick(each, list.fields));
  function read(status) {
    const now = pick(status, FIELDS.server);
    for (const [name, list] of Object.entries(FIELDS.lists)) now[name] = pickList(status, list);
    return now;
  }

  /* ---- Numbers with units, in three digits. */
  const digits = (value) => value.toFixed(value >= 100 || value === 0 ? 0 : value >= 10 ? 1 : 2);
  function scaled(value, step, units) {
    let unit = 0;
    while (Math.abs(value) >= step * 0.9995 && unit + 1 < units.length) { value /= step; ++unit; }
    return (unit === 0 ? String(Math.round(value)) : digits(value)) + (units[unit] && "\u00a0" + units[unit]);
  }
  const count = (value) => scaled(value, 1000, ["", "k", "M", "G", "T"]);
  const bytes = (value) => scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]);
  const rate = (value) => scaled(value, 1000, ["B/s", "kB/s", "MB/s", "GB/s", "TB/s"]);
  const percent = (part, whole) => {
    const value = whole > 0 ? 100 * part / whole : 0;
    return (value === 0 || value === 100 ? String(value) : value.toFixed(1)) + "\u00a0%";
  };
  function time(seconds) {
    if (seconds < 1e-3) return digits(seconds * 1e6) + "\u00a0µs";
    return seconds < 1 ? digits(seconds * 1e3) + "\u00a0ms" : digits(seconds) + "\u00a0s";
  }
  function span(seconds) {
    const s = Math.floor(seconds);
    if (s < 60) return `${s}\u00a0s`;
    if (s < 3600) return `${Math.floor(s / 60)}\u00a0min`;
    if (s < 86400) return `${Math.floor(s / 3600)}\u00a0h ${Math.floor(s % 3600 / 60)}\u00a0min`;
    return `${Math.floor(s / 86400)}\u00a0d ${Math.floor(s % 86400 / 3600)}\u00a0h`;
  }
  const many = (value, one, several) => `${count(value)} ${value === 1 ? one : several || one + "s"}`;

  /* ---- History: totals with the time they were read at. */
  let samples = [];
  function remember(now, seconds) {
    if (samples.length && now.uptime < samples.at(-1).now.uptime) samples = [];  /* Another run of it. */
    samples.push({ at: seconds, now });
    while (samples[0].at < seconds - HISTORY_S) samples.shift();
  }
  const window_s = () => {
    const age = samples.at(-1).at - samples[0].at;
    return WINDOWS_S.find((each) => each >= age) ?? HISTORY_S;
  };
  /* One value for each part of the window: of its last sample and the one before the part; null where it has none. */
  function series(value) {
    const window = window_s(), end = samples.at(-1).at, out = new Array(BUCKETS).fill(null);
    const last = new Array(BUCKETS).fill(null);
    for (const sample of samples) {
      const part = Math.ceil((sample.at - end) / window * BUCKETS) + BUCKETS - 1;
      if (part >= 0) last[part] = sample;
    }
    let before = samples[0];
    for (let part = 0; part < BUCKETS; ++part) {
      if (last[part] === null) continue;
      if (last[part] !== before) out[part] = value(last[part].now, before.now, last[part].at - before.at);
      before = last[part];
    }
    return out;
  }
  /* How fast a number has grown since the page has watched; null: not known yet. */
  function growth(value) {
    const first = samples[0], last = samples.at(-1);
    return last.at - first.at < 10 ? null : (value(last.now) - value(first.now)) / (last.at - first.at);
  }
  function draw(svg, values, max) {
    const top = max ?? Math.max(...values.map((value) => value ?? 0));
    const x = (i) => (i * 100 / (values.length - 1)).toFixed(1);
    const y = (value) => (23 - 22 * (top > 0 ? Math.min(1, value / top) : 0)).toFixed(1);
    let line = "", area = "", from = null;
    if (values.filter((value) => value !== null).length < 3) values = [];  /* Too little to be a line. */
    values.forEach((value, i) => {
      if (value === null) return;
      if (from === null) { from = i; line += `M${x(i)} ${y(value)}h0`; area += `M${x(i)} 24`; }
      line += `L${x(i)} ${y(value)}`;
      area += `L${x(i)} ${y(value)}`;
      if (values[i + 1] == null) { area += `L${x(i)} 24Z`; from = null; }
    });
    svg.querySelector(".line").setAttribute("d", line);
    svg.querySelector(".area").setAttribute("d", area);
  }

  /* ---- Rows that keep their nodes, so that what is focused or open stays so. */
  function rows(body, template, items, keyOf, fill) {
    const old = new Map([...body.children].map((row) => [row.dataset.key, row]));
    items.forEach((item, i) => {
      const key = String(keyOf(item, i));
      const row = old.get(key) ?? $(template).content.firstElementChild.cloneNode(true);
      old.delete(key);
      row.dataset.key = key;
      fill(row, item);
      if (body.children[i] !== row) body.insertBefore(row, body.children[i] ?? null);
    });
    for (const row of old.values()) row.remove();
  }

  /* ---- Parts of the page. */
  const STATES = {
    healthy: ["good", "Healthy"], degraded: ["warn", "Degraded"],
    draining: ["warn", "Ending"], down: ["bad", "Does not run"],
  };
  function showHealth(now) {
    const [look, name] = STATES[now.state] ?? ["warn", now.state];
    $("health").dataset.state = look;
    kind($("health-pill"), look);
    put($("health-pill"), name);
    const reasons = now.reasons.length;
    put($("health-text"), reasons === 0
      ? `The server answers${now.tiers.length ? ", all connectors are healthy" : ""}, and nothing was lost in the last 5 minutes.`
      : reasons === 1 ? "One thing is not as it should be:" : `${reasons} things are not as they should be:`);
    rows($("reasons"), "reason-row", now.reasons, (reason, i) => i, (row, reason) => {
      put(cell(row, "what"), reason.what + ".");
      put(cell(row, "remedy"), reason.remedy);
      put(cell(row, "because"), reason.because.join("; "));
    });
  }
  function showHead(now) {
    put($("version"), now.version);
    put($("facts"), [`up ${span(now.uptime)}`, many(now.workers.length, "worker"), many(now.connections, "connection"),
      `chunks of ${now.chunk} tokens`,
      { read_only: "HTTP is read-only", token: "changes need a token", open: "any local process may change state" }[now.access] ?? now.access,
    ].join(" · "));
  }
  function showAttach(now) {
    const isNew = now.asked_all === 0;
    show($("attach"), isNew);
    show($("saved"), !isNew);
    show($("misses"), !isNew);
    if (!isNew) return;
    const has = now.workers.length > 0;
    put($("attach-title"), has ? "No prompt was looked up yet" : "No engine has connected yet");
    put($("attach-text"), has
      ? `${many(now.workers.length, "worker is", "workers are")} registered. What the engine looks up and finds here need not be computed, and is counted here.`
      : "The server is ready. Attach vLLM on this machine, with the name of a model for MODEL:");
    show($("attach-how"), !has);
    put($("attach-command"), now.attach);
  }
  function showSaved(now) {
    const recent = now.asked_15m > 0 ? "15m" : "all";
    put($("share"), percent(now["l1_" + recent] + now["l2_" + recent], now["asked_" + recent]));
    put($("share-of"), recent === "all" ? "of all tokens found" : "of tokens found, 15 min");
    ["l1_", "l2_"].forEach((tier, i) => {
      $("share-bar").children[i].style.width = `${100 * now[tier + recent] / now["asked_" + recent]}%`;
    });
    put($("not-computed"), count(now.l1_all + now.l2_all));
    for (const row of $("windows").children) {
      const of = row.dataset.window, asked = now["asked_" + of], l1 = now["l1_" + of], l2 = now["l2_" + of];
      const texts = asked === 0 ? ["none", "", "", ""]
        : [count(asked), percent(l1, asked), percent(l2, asked), percent(l1 + l2, asked)];
      texts.forEach((text, i) => put(row.cells[i + 1], text));
      row.cells[1].className = asked === 0 ? "none" : "";
    }
    const found = (each) => each.l1_all + each.l2_all;
    draw($("share-spark"), series((b, a) =>
      b.asked_all === a.asked_all ? null : (found(b) - found(a)) / (b.asked_all - a.asked_all)), 1);
  }
  function showMisses(now) {
    const missed = Object.values(now.missed_15m).reduce((sum, each) => sum + each, 0);
    for (const row of $("miss-rows").children) {
      const recent = now.missed_15m[row.dataset.reason], all = now.missed_all[row.dataset.reason];
      row.querySelector(".bar i").style.width = missed === 0 ? "0" : `${100 * recent / missed}%`;
      put(row.cells[2], count(recent * now.chunk));
      put(row.cells[3], count(all * now.chunk));
      row.className = recent > 0 ? "some" : "";
      row.cells[2].className = recent === 0 ? "none" : "";
      row.cells[3].className = all === 0 ? "none" : "";
    }
  }
  function showL1(now) {
    put($("l1-used"), percent(now.used, now.capacity));
    put($("l1-of"), `${bytes(now.used)} of ${bytes(now.capacity)} in use, ${many(now.chunks, "chunk")}`);
    const idle = now.resident - now.locked, moving = now.writing + now.loading, stuck = now.quarantine + now.orphan;
    [now.locked, idle, moving, stuck].forEach((part, i) => {
      $("l1-bar").children[i].style.width = `${100 * part / now.capacity}%`;
    });
    put($("l1-locked"), bytes(now.locked));
    put($("l1-idle"), bytes(idle));
    put($("l1-moving"), bytes(moving));
    put($("l1-quarantine"), bytes(stuck));
    put($("l1-wanted"), bytes(now.wanted));
    put($("l1-lost"), many(now.lost, "object"));
    const fills = growth((each) => each.used + each.evicted_bytes);
    put($("l1-fills"), fills === null ? "measuring" : rate(Math.max(0, fills)));
    put($("l1-age"), now.evicted_chunks === 0 ? "nothing evicted yet" : span(now.evicted_age));
    put($("l1-advice"), now.returned === 0 ? "" :
      `${many(now.returned, "evicted chunk")} came back, after ${span(now.returned_after)} on average: a larger --l1-size-gb would have had them.`);
    put($("l1-if"), now.asked_all === 0 || now.if_l1_capacity == null ? "" : whatIf(now, "l1", "size of L1"));
  }

  /* What other capacities would find, of recent lookups. */
  function whatIf(now, tier, what) {
    const rates = ["half", "same", "double", "unlimited"].map((each) => now[`if_${tier}_${each}`]);
    const text = (rate) => rate == null ? "not yet known" : percent(rate, 1);
    if (rates.every((rate) => rate == null)) return `What another ${what} would find is not yet known: too little was asked for.`;
    return `Estimated, if the least recently used goes first: half the ${what} would find ${text(rates[0])} of chunks, ` +
      `this one ${text(rates[1])}, twice as much ${text(rates[2])}, without limit ${text(rates[3])}. ` +
      `Measured: ${text(now[`if_${tier}_measured`])}.`;
  }

  const HEALTH = { healthy: ["good", "Healthy"], degraded: ["warn", "Degraded"], down: ["bad", "Down"] };
  function showFlow(row, tier, name) {
    const has = tier[name + "_batches"] > 0, isIdle = tier[name + "_batches_1m"] === 0, suffix = isIdle ? "" : "_1m";
    cell(row, name + "-rate").className = !has || isIdle ? "none" : "strong";
    put(cell(row, name + "-rate"), !has ? "none yet" : isIdle ? "idle" : rate(tier[name + "_rate_1m"]));
    put(cell(row, name + "-times"), !has ? ""
      : `p50 ${time(tier[`${name}_p50${suffix}`])} · p99 ${time(tier[`${name}_p99${suffix}`])}`);
    const of = (now) => now.tiers.find((each) => each.name === tier.name)?.[name + "_bytes"] ?? 0;
    draw(cell(row, name + "-spark"), series((b, a, seconds) => (of(b) - of(a)) / seconds));
  }
  function fullText(tier) {
    if (tier.capacity === 0) return "no limit of its own";
    if (tier.used >= 0.97 * tier.capacity) return "full: the oldest make room";
    const grows = growth((now) => now.tiers.find((each) => each.name === tier.name)?.used ?? 0);
    return grows === null || grows <= 0 ? "" : `full in ${span((tier.capacity - tier.used) / grows)} at this rate`;
  }
  function showTier(row, tier) {
    const [look, name] = HEALTH[tier.health] ?? ["warn", tier.health];
    put(cell(row, "name"), tier.name);
    put(cell(row, "spec"), tier.spec);
    kind(cell(row, "health"), look);
    put(cell(row, "health"), name);
    show(cell(row, "notes"), tier.reasons.length > 0);
    put(cell(row, "notes-count"), many(tier.reasons.length, "note"));
    put(cell(row, "reasons"), tier.reasons.join("; "));
    put(cell(row, "holds"), tier.capacity === 0 ? bytes(tier.used) : `${bytes(tier.used)} of ${bytes(tier.capacity)}`);
    cell(row, "fill").style.width = tier.capacity === 0 ? "0" : `${Math.min(100, 100 * tier.used / tier.capacity)}%`;
    put(cell(row, "full"), fullText(tier));
    showFlow(row, tier, "load");
    showFlow(row, tier, "store");
    const recent = tier.load_failed_1m + tier.store_failed_1m + tier.lookup_failed_1m;
    const all = tier.load_failed + tier.store_failed + tier.lookup_failed;
    put(cell(row, "errors"), all === 0 ? "none" : `${count(recent)} in 1 min`);
    cell(row, "errors").className = all === 0 ? "none" : "";
    const left = tier.lost + tier.over_quota;
    put(cell(row, "errors-more"), [all > 0 && `${count(all)} in all`, left > 0 && `${count(left)} not given`]
      .filter(Boolean).join(" · "));
  }
  function showTiers(now) {
    show($("no-tiers"), now.tiers.length === 0);
    show($("tier-table"), now.tiers.length > 0);
    show($("about-tiers"), now.tiers.length > 0);
    put($("l2-if"), now.asked_all === 0 || now.if_l2_capacity == null ? "" : whatIf(now, "l2", "capacity of L2"));
    rows($("tiers"), "tier-row", now.tiers, (tier) => tier.name, showTier);
  }
  const MODES = { engine_driven: "engine-driven", lmcache_driven: "LMCache-driven" };
  function showWorkers(now) {
    const shown = now.workers.slice(0, ROWS_MAX);
    show($("no-workers"), shown.length === 0);
    show($("worker-table"), shown.length > 0);
    show($("about-workers"), shown.length > 0);
    rows($("worker-rows"), "worker-row", shown, (worker) => worker.mode + worker.id, (row, worker) => {
      put(cell(row, "id"), worker.id);
      put(cell(row, "model"), worker.model);
      cell(row, "model").title = worker.model;
      put(cell(row, "rank"), `${worker.rank ?? "?"} of ${worker.world}`);
      put(cell(row, "mode"), MODES[worker.mode] ?? worker.mode);
      put(cell(row, "loaded"), worker.loaded === 0 ? "nothing yet" : `${count(worker.loaded)} tokens`);
      put(cell(row, "seen"), worker.silent < 1 ? "now" : `${span(worker.silent)} ago`);
    });
    const more = now.workers.length - shown.length;
    put($("more-workers"), more > 0 ? `and ${count(more)} more: see /status` : "");
  }
  function showLookups(now) {
    for (const name of ["waiting", "running", "hashing", "late"]) put($(name), count(now[name]));
    const values = series((b, a, seconds) => (b.lookups - a.lookups) / seconds);
    draw($("lookup-spark"), values);
    const last = values.findLast((value) => value !== null);
    put($("lookup-rate"), now.lookups === 0 ? "No lookup has come yet."
      : last === undefined ? `${many(now.lookups, "lookup")} since the start.`
      : `${digits(last)} lookups/s now, ${count(now.lookups)} since the start; ${many(now.sessions, "request")} running.`);
  }
  /* Salts by tokens asked for; a salt that has room of L1 and no lookups comes last. */
  function showSalts(now) {
    const bySalt = new Map(now.salts.map((each) => [each.salt, each]));
    const list = now.spaces.filter((space) => space.asked > 0).sort((a, b) => b.asked - a.asked);
    const named = new Set(list.map((space) => space.salt));
    for (const each of now.salts) if (!named.has(each.salt)) list.push({ salt: each.salt, model: "", asked: 0, l1: 0, l2: 0 });
    const shown = list.slice(0, SALTS_MAX);
    show($("no-salts"), shown.length === 0);
    show($("salt-table"), shown.length > 0);
    rows($("salt-rows"), "salt-row", shown, (space) => JSON.stringify([space.salt, space.model]), (row, space) => {
      put(cell(row, "salt"), space.salt === "" ? "no salt" : space.salt);
      put(cell(row, "model"), space.model);
      cell(row, "salt").title = space.salt;
      cell(row, "model").title = space.model;
      put(cell(row, "asked"), count(space.asked));
      put(cell(row, "found"), space.asked === 0 ? "" : percent(space.l1 + space.l2, space.asked));
      const room = bySalt.get(space.salt);
      bySalt.delete(space.salt);  /* It is that of all its models: once. */
      put(cell(row, "room"), !room ? "" : bytes(room.bytes) + (room.limit ? ` of ${bytes(room.limit)}` : "") +
        (room.guarantee ? `, ${bytes(room.guarantee)} sure` : ""));
    });
  }
  function showAll(now) {
    for (const part of [showHead, showHealth, showAttach, showSaved, showMisses, showL1, showTiers, showWorkers,
      showLookups, showSalts]) part(now);
    put($("footer-span"), `Lines show the last ${window_s() / 60} minutes, as long as this page has watched.`);
    show($("numbers"), true);
  }

  /* ---- Polling. */
  let timer = 0, isAsking = false, failures = 0, answered = null, next = 0, why = "";
  const clock = () => performance.now() / 1000;
  function showLive() {
    const isGood = failures === 0;
    document.body.classList.toggle("silent", !isGood && answered !== null);
    put($("live-text"), answered === null && isGood ? "Connecting" : isGood ? "Live" : "No answer");
    kind($("live"), answered === null && isGood ? "quiet" : isGood ? "good" : "bad");
    put($("live-age"), answered === null ? "" : `${span(clock() - answered)} ago`);
    show($("silence"), !isGood);
    if (isGood) return;
    const wait = Math.max(0, Math.ceil(next - clock()));
    put($("silence-text"), (answered === null ? "" : `What is shown is ${span(clock() - answered)} old. `) +
      (isAsking ? "Asking now." : `The next try is in ${wait} s.`));
  }
  function showSilence() {
    $("health").dataset.state = "bad";
    kind($("health-pill"), "bad");
    put($("health-pill"), "No answer");
    put($("health-text"), why);
    $("reasons").replaceChildren();
  }
  async function ask() {
    const reply = await fetch("status", { cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) });
    const body = await reply.json();
    if (!reply.ok) throw new Refusal(body.detail ?? `answer ${reply.status}`);
    return read(body);
  }
  class Refusal extends Error {}
  const reason = (error) => error instanceof Refusal ? `The server refused: ${error.message}.`
    : error.name === "TimeoutError" ? `/status was not answered within ${ANSWER_MS / 1000} s. Is the machine overloaded, or the process stopped?`
    : error.name === "TypeError" ? "The server cannot be reached. Is the process running? Engines go on without it, and compute."
    : `The answer cannot be read: ${error.message}`;
  async function poll() {
    clearTimeout(timer);
    if (isAsking || document.hidden) return;
    isAsking = true;
    showLive();
    let now = null;
    try {
      now = await ask();
    } catch (error) {
      why = reason(error);
      ++failures;
    }
    isAsking = false;
    const wait = now ? POLL_MS : Math.min(POLL_MAX_MS, POLL_MS * 2 ** Math.min(failures - 1, 10));
    next = clock() + wait / 1000;
    timer = setTimeout(poll, wait);
    if (now) {
      failures = 0;
      answered = clock();
      remember(now, answered);
      showAll(now);
    } else {
      showSilence();
    }
    showLive();
  }
  document.addEventListener("visibilitychange", poll);
  $("retry").addEventListener("click", poll);
  show($("copy"), Boolean(navigator.clipboard));
  $("copy").addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText($("attach-command").textContent);
      put($("copied"), "Copied.");
    } catch {
      put($("copied"), "The browser does not allow it: select the text instead.");
    }
  });
  setInterval(() => { if (!document.hidden) showLive(); }, 1000);
  poll();
})();
