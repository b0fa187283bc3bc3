// The site's search runs in a Worker, which browsers refuse to pages that are read from a disk
// (file:). There, a hidden frame takes its place: the same messages, both ways.
// Material for MkDocs asks for such a class, named IFrameWorker, by its plugin "offline".
if (location.protocol === "file:") {
  window.Worker = window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.appendChild(frame);
      this.frame = frame.contentWindow;
      const page = this.frame.document;
      page.open();
      page.write(
        `<script>
          function postMessage(data) { parent.dispatchEvent(new MessageEvent("larder-worker", { data })); }
          async function importScripts(...urls) {
            for (const url of urls) {
              await new Promise((done, failed) => {
                const script = document.createElement("script");
                script.src = url;
                script.onload = done;
                script.onerror = failed;
                document.body.appendChild(script);
              });
            }
          }
        </script><script src="${new URL(url, location.href)}"></script>`,
      );
      page.close();
      // What is posted before the frame has its script waits for it.
      this.loaded = new Promise((done) => frame.addEventListener("load", done, { once: true }));
      window.addEventListener("larder-worker", ({ data }) => {
        const message = new MessageEvent("message", { data });
        this.dispatchEvent(message);
        if (this.onmessage) this.onmessage(message);
      });
    }

    async postMessage(data) {
      await this.loaded;
      this.frame.dispatchEvent(new MessageEvent("message", { data }));
    }

    terminate() {}
  };
}
