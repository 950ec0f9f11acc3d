/** Colours are named by what they say, so that light and dark differ in this one place. */
export const STYLE = `
:root {
  color-scheme: light dark;
  --page: #f4f5f7; --card: #fff; --line: #d9dce1; --text: #1b1f24; --quiet: #5b6470;
  --good: #1a7f4b; --warn: #9a5b00; --bad: #c02626; --first: #2563c9; --second: #b4530a; --track: #e6e8ec;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #111418; --card: #1a1e24; --line: #333a44; --text: #e6e9ee; --quiet: #9aa4b1;
    --good: #4cc38a; --warn: #e5a23d; --bad: #ff7b7b; --first: #6ea8fe; --second: #f2a65a; --track: #2a3038;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1rem; max-width: 76rem; background: var(--page); color: var(--text);
  font: 15px/1.45 system-ui, sans-serif; overflow-wrap: anywhere;
}
header { display: flex; flex-wrap: wrap; gap: .4rem 1rem; align-items: baseline; }
h1 { font-size: 1.35rem; margin: 0; }
h2 { font-size: 1rem; margin: 0 0 .7rem; }
p, dl, dd, ul { margin: 0; padding: 0; }
main { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 1rem; margin: 1rem 0; }
section { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1rem; min-width: 0; }
.wide { grid-column: 1 / -1; }
.quiet, dt, th, figcaption, footer { color: var(--quiet); }
.good { color: var(--good); } .warn { color: var(--warn); } .bad { color: var(--bad); }
.badge { border: 1px solid currentColor; border-radius: 1rem; padding: 0 .7rem; font-weight: 600; }
.code, .value { font-family: ui-monospace, monospace; font-size: .87em; }
.value { unicode-bidi: isolate; white-space: pre-wrap; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .25rem 1rem; }
ul { list-style: none; display: grid; gap: .8rem; }
.ends { display: flex; flex-wrap: wrap; gap: 0 1rem; justify-content: space-between; }
.track { height: .5rem; border-radius: .25rem; background: var(--track); overflow: hidden; margin: .2rem 0; }
.bar { height: 100%; background: currentColor; }
.charts { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 1.2rem; }
figure { margin: 0; }
figcaption { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 .8rem; font-size: .87rem; }
svg { display: block; width: 100%; height: 6rem; margin: .3rem 0; border-bottom: 1px solid var(--line); overflow: visible; }
.first { color: var(--first); } .second { color: var(--second); }
.fill { fill: currentColor; }
.stroke { fill: none; stroke: currentColor; stroke-width: 1.6; vector-effect: non-scaling-stroke; stroke-linejoin: round; }
.touch { fill: transparent; } .touch:hover { fill: currentColor; opacity: .15; }
.scroll { max-height: 26rem; overflow: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); }
th { font-weight: 500; font-size: .87rem; position: sticky; top: 0; background: var(--card); white-space: nowrap; }
td.short { white-space: nowrap; } td.roomy { min-width: 9rem; }
footer { display: flex; flex-wrap: wrap; gap: .3rem 1rem; font-size: .87rem; }
a { color: inherit; }
@media (max-width: 48rem) {
  body { padding: .7rem; }
  main, .charts { grid-template-columns: minmax(0, 1fr); }
  dl { grid-template-columns: minmax(0, 1fr); gap: 0; } dd { margin-bottom: .5rem; }
  thead { display: none; }
  tr { display: block; padding: .5rem 0; border-bottom: 1px solid var(--line); }
  td, td.short, td.roomy { display: grid; grid-template-columns: 7.5rem minmax(0, 1fr); white-space: normal; padding: .1rem 0; border: 0; min-width: 0; }
  td::before { content: attr(data-label); color: var(--quiet); font-size: .87rem; }
  td.absent { display: none; }
}
`;
