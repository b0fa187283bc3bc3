"""larder.lmcache.LoadPolicy, made and asked as LMCache 0.5.7's server does."""

import json
import subprocess
import sys
import textwrap

from mp_server import environment_of, require

RELEASE = "0.5.7rc2"


def run(body):
    """What `answers` holds at the end of these lines, in a process that has that LMCache."""
    require(RELEASE)
    head = """
        import json, larder
        from lmcache.v1.multiprocess.kv_load_policy import KVLoadContext, create_kv_load_policy

        def policy(**configs):
            return create_kv_load_policy("larder.lmcache:LoadPolicy", configs)

        def context(tokens, **configs):
            return KVLoadContext("request", "model", 256, tokens, configs or None)

        def load(store, count=64):
            keys = [str(i) for i in range(count)]
            store.set_many(keys, [b"x" * 1000] * count)
            assert all(store.get_into(keys, [bytearray(1000) for _ in keys]).hits)

        answers = {}
    """
    code = textwrap.dedent(head) + textwrap.dedent(body) + "\nprint('ANSWERS', json.dumps(answers))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment_of(RELEASE),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("ANSWERS ")]
    return json.loads(line.removeprefix("ANSWERS "))


def test_a_lookup_that_is_slower_to_load_than_to_compute_is_declined():
    answers = run(
        """
        size = {"larder_kv_bytes_per_token": 100}
        fast = policy(larder_prefill_tokens_per_second=1e6, **size)
        slow = policy(larder_prefill_tokens_per_second=1, **size)
        answers["no store"] = fast.should_load(context(4096))
        # A load takes 200 ms at least: 4096 tokens are computed within 4 ms, or in an hour.
        with larder.open("fault:?inner=memory:&delay_rate=1&delay=200ms&pattern=get:*") as store:
            answers["unknown"] = fast.should_load(context(4096))
            load(store)
            answers["slower"] = fast.should_load(context(4096))
            answers["quicker"] = slow.should_load(context(4096))
            key = "lmcache.hint.engine_computed_tokens"
            answers["all in the engine"] = fast.should_load(context(4096, **{key: 4096}))
            answers["most in the engine"] = fast.should_load(context(4096, **{key: 4000}))
            answers["skipped"] = slow.should_load(context(4096, **{"lmcache.skip_load": True}))
            # The quickest of the stores that are open counts.
            with larder.open("memory:") as quick:
                load(quick)
                answers["quick store"] = policy(
                    larder_prefill_tokens_per_second=1000, **size
                ).should_load(context(256 * 64))
        answers["closed"] = fast.should_load(context(4096))
        """
    )
    assert answers == {
        "no store": True,
        "unknown": True,
        "slower": False,
        "quicker": True,
        "all in the engine": True,
        "most in the engine": False,
        "skipped": False,
        "quick store": True,
        "closed": True,
    }


def test_a_missing_or_wrong_number_is_an_error_that_shows_how():
    answers = run(
        """
        good = {"larder_prefill_tokens_per_second": 9000, "larder_kv_bytes_per_token": 131072}
        for name in good:
            for value in (None, 0, -1, "9000", True, float("inf"), float("nan")):
                try:
                    policy(**{**good, name: value})
                except ValueError as error:
                    answers[f"{name} {value}"] = str(error)
        """
    )
    assert len(answers) == 14
    for asked, text in answers.items():
        assert text.startswith(asked.split()[0] + ": ") and "--runtime-plugin-config" in text
