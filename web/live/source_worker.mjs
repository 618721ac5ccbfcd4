/** A LiveSource in a worker; see openSource in source.mjs for the messages. */

import { Gone, LiveSource } from "./source.mjs";

let source = null;

self.addEventListener("message", ({ data }) => {
  if (data.url) {
    source = new LiveSource(data.url, (error) =>
      self.postMessage({ failure: error.message, isGone: error instanceof Gone }),
    );
    const { handle } = source.mediaSource;
    self.postMessage({ handle }, [handle]);
  } else if (data.chunks) {
    source.update(data.chunks);
  } else if (data.isResting !== undefined) {
    source.rest(data.isResting);
  } else {
    source.playhead(data.time);
  }
});
