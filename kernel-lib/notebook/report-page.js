// Runs in the report page: draws the charts when they come near, keeps the contents list in step, folds code.
const specs = JSON.parse(document.getElementById("charts").textContent);

async function draw(figure) {
  const spec = specs[Number(figure.dataset.chart)];
  delete spec.usermeta; // it could override the options below
  const target = document.createElement("div");
  try {
    // `ast`: expressions are interpreted, so that the page needs no permission to compile code.
    await vegaEmbed(target, spec, { ast: true, renderer: "svg", mode: "vega-lite", logLevel: 1, actions: { export: true, source: false, compiled: false, editor: false } });
    figure.replaceChildren(target);
    figure.dataset.drawn = "live";
  } catch (error) {
    figure.dataset.drawn = "picture"; // the picture stays
    console.error(error);
  }
}

const waiting = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    waiting.unobserve(target);
    draw(target);
  }
}, { rootMargin: "600px" });
for (const figure of document.querySelectorAll("figure[data-chart]")) waiting.observe(figure);

const links = new Map([...document.querySelectorAll("nav a")].map((a) => [decodeURIComponent(a.hash.slice(1)), a]));
const headings = [...links.keys()].map((id) => document.getElementById(id)).filter(Boolean);
function follow() {
  let current = headings[0];
  for (const heading of headings) if (heading.getBoundingClientRect().top < 120) current = heading;
  // At the page's end the last headings cannot come to the top.
  if (innerHeight + scrollY >= document.documentElement.scrollHeight - 2) {
    const target = headings.find((heading) => heading.id === decodeURIComponent(location.hash.slice(1)));
    current = target && target.getBoundingClientRect().top >= 0 ? target : headings.at(-1);
  }
  for (const open of document.querySelectorAll("nav .open, nav .here")) open.classList.remove("open", "here");
  const link = current && links.get(current.id);
  if (!link) return;
  link.classList.add("here");
  for (let item = link.closest("li"); item; item = item.parentElement.closest("li")) item.classList.add("open");
  const nav = document.querySelector("nav");
  const { top, bottom } = link.getBoundingClientRect();
  if (nav.scrollHeight > nav.clientHeight && (top < 60 || bottom > nav.clientHeight - 20)) nav.scrollTop += top - nav.clientHeight / 2;
}
let asked = false;
addEventListener("scroll", () => {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => { asked = false; follow(); });
}, { passive: true });
follow();

const button = document.getElementById("code");
button.hidden = false;
button.addEventListener("click", () => {
  const blocks = [...document.querySelectorAll("details.code")];
  const open = !blocks.every((block) => block.open);
  for (const block of blocks) block.open = open;
  button.textContent = open ? "Hide code" : "Show code";
});
