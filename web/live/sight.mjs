/** Whether an element is visible: attached, in view, and in the foreground tab. */

/** An element counts as visible if at least this share of it is in view. */
const LEAST_SHARE = 0.2;

/** Call `onChange(isSeen)` soon after the call and after every change. Returns a function that stops it. */
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
