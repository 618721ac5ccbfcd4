/** Whether an element can be seen: attached, in view, and in a tab that is in front. */

/** Less of a picture than this share does not count as seen. */
const LEAST_SHARE = 0.2;

/** Call `onChange(isSeen)` whenever that changes, for the first time soon. Returns a function that ends it. */
export function watchSight(element, onChange) {
  let isInView = false;
  let last = null;
  const report = () => {
    const isSeen = isInView && element.isConnected && !document.hidden;
    if (isSeen !== last) onChange((last = isSeen));
  };
  const observer = new IntersectionObserver(
    (entries) => {
      isInView = entries.at(-1).isIntersecting && entries.at(-1).intersectionRatio >= LEAST_SHARE;
      report();
    },
    { threshold: [0, LEAST_SHARE] },
  );
  observer.observe(element);
  document.addEventListener("visibilitychange", report);
  return () => {
    observer.disconnect();
    document.removeEventListener("visibilitychange", report);
  };
}
