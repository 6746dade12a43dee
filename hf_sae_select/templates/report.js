"use strict";
// The page's own script. Texts of rows, labels and columns reach the document as text nodes alone.
(() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const byId = (id) => document.getElementById(id);
  const [ID, NAME, SCORE, POOL, SUBSET, LIFT, PART_OF, WORDS] = [0, 1, 2, 3, 4, 5, 6, 7];
  const PICKS_A_PAGE = 50, FEATURES_A_PAGE = 25, SHOWN_LETTERS = 700;
  const features = new Map(data.features.map((feature) => [feature[ID], feature]));

  // ---- small helpers

  /** Make an element; attributes are set by name, children are elements or texts. */
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== undefined && value !== null) element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  }

  function button(text, attributes, onClick) {
    const element = make("button", { type: "button", ...attributes }, text);
    element.addEventListener("click", onClick);
    return element;
  }

  const number = (value) => value.toLocaleString("en-US");
  const percent = (value) => {
    if (value === 0) return "0%";
    const share = 100 * value;
    return `${share >= 10 ? share.toFixed(0) : share >= 0.1 ? share.toFixed(1) : share.toFixed(2)}%`;
  };
  const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;
  const title = (id) => {
    const name = features.has(id) ? features.get(id)[NAME] : "";
    return name ? `#${id} ${name}` : `#${id}`;
  };
  const later = (action, wait = 150) => {
    let timer = 0;
    return () => {
      clearTimeout(timer);
      timer = setTimeout(action, wait);
    };
  };

  function pager(element, state, pages, draw) {
    element.replaceChildren();
    if (pages < 2) return;
    const go = (page) => {
      state.page = page;
      draw();
      const heading = byId(element.dataset.heading);
      heading.focus({ preventScroll: true });
      heading.scrollIntoView({ block: "start" });
    };
    const previous = button("Previous", {}, () => go(state.page - 1));
    const next = button("Next", {}, () => go(state.page + 1));
    previous.disabled = state.page === 0;
    next.disabled = state.page === pages - 1;
    element.append(previous, make("span", {}, `Page ${number(state.page + 1)} of ${number(pages)}`), next);
  }

  // ---- which picks have a feature: a string of varints, decoded when it is first asked for

  let holders = null;

  function holdersOf(feature) {
    if (!holders) {
      holders = new Map();
      const bytes = Uint8Array.from(atob(data.holders.data), (letter) => letter.charCodeAt(0));
      let at = 0;
      const read = () => {
        let value = 0, scale = 1, byte;
        do {
          byte = bytes[at++];
          value += (byte & 127) * scale;
          scale *= 128;
        } while (byte & 128);
        return value;
      };
      for (let id = -1; at < bytes.length; ) {
        id += read() + 1;
        const count = read(), picks = new Array(count);
        for (let i = 0, pick = -1; i < count; i++) picks[i] = pick += read() + 1;
        holders.set(id, new Set(picks));
      }
    }
    // Where only the strongest features of a pick are here, others can be parts of its gain too.
    const asPart = (pick) => pick.parts.some((part) => part[0] === feature);
    return data.picks.flatMap((pick, index) => (holders.get(feature)?.has(index) || asPart(pick) ? [index] : []));
  }

  // ---- charts

  async function drawCharts() {
    for (const [id, spec] of Object.entries(data.charts)) {
      const options = {
        ast: true, // without `eval`, which the page's policy forbids
        actions: false,
        defaultStyle: false,
        renderer: "svg",
        tooltip: { disableDefaultStyle: true },
      };
      const place = byId(`chart-${id}`);
      const view = await window.reportEmbed(place, spec, options);
      window.addEventListener("resize", later(() => view.view.resize().runAsync()));
    }
  }

  // ---- the table of features

  const hasScores = document.querySelector("#feature-table th[data-column='2']") !== null;
  const table = { page: 0, column: null, descending: true };

  function shareBar(share, kind) {
    const bar = make("span", { class: `bar ${kind}`, "aria-hidden": "true" });
    bar.style.width = `${Math.max(share > 0 ? 1 : 0, 100 * share)}%`;
    return make("td", { class: "number" }, make("span", { class: "value" }, percent(share)), make("span", { class: "track", "aria-hidden": "true" }, bar));
  }

  function liftText(lift) {
    return lift === null ? "–" : `× ${lift >= 10 ? lift.toFixed(0) : lift.toFixed(2)}`;
  }

  function featureRow(feature) {
    const name = button(title(feature[ID]), { class: "link", title: "Show the picks that have this feature" }, () => showPicksOf(feature[ID]));
    return make(
      "tr", {},
      make("th", { scope: "row" }, name),
      shareBar(feature[POOL], "pool"),
      shareBar(feature[SUBSET], "subset"),
      make("td", { class: "number" }, liftText(feature[LIFT])),
      hasScores ? make("td", { class: "number" }, feature[SCORE] === null ? "–" : feature[SCORE].toFixed(2)) : null,
    );
  }

  function drawFeatures() {
    const part = document.querySelector("input[name=feature-part]:checked").value;
    const query = byId("feature-search").value.trim().toLowerCase();
    let rows = data.features.filter(
      (feature) => (part === "all" || feature[PART_OF] === part) && (!query || title(feature[ID]).toLowerCase().includes(query)),
    );
    if (table.column !== null) {
      const sign = table.descending ? -1 : 1, column = table.column;
      rows = rows.slice().sort((a, b) => {
        const [x, y] = [a[column], b[column]];
        const [noX, noY] = [x === null || x === "", y === null || y === ""];
        if (noX || noY) return noX - noY || a[ID] - b[ID]; // without a value: always last
        const order = column === NAME ? (x < y ? -1 : x > y ? 1 : 0) : x - y;
        return sign * order || a[ID] - b[ID];
      });
    }
    const pages = Math.max(1, Math.ceil(rows.length / FEATURES_A_PAGE));
    table.page = Math.min(table.page, pages - 1);
    const shown = rows.slice(table.page * FEATURES_A_PAGE, (table.page + 1) * FEATURES_A_PAGE);
    byId("feature-rows").replaceChildren(...shown.map(featureRow));
    byId("feature-count").textContent = plural(rows.length, "feature");
    pager(byId("feature-pages"), table, pages, drawFeatures);
  }

  function sortBy(header) {
    const column = Number(header.dataset.column);
    const initial = column !== NAME; // numbers: the largest first
    table.descending = table.column === column ? !table.descending : initial;
    table.column = column;
    table.page = 0;
    for (const other of document.querySelectorAll("#feature-table thead th")) {
      other.setAttribute("aria-sort", other === header ? (table.descending ? "descending" : "ascending") : "none");
    }
    drawFeatures();
  }

  // ---- picks

  const picks = { page: 0, feature: null, texts: null };

  /** Cut a text where spans begin and end; each piece has the features that fired on it. Offsets count characters. */
  function pieces(letters, spans) {
    const cuts = new Set([0, letters.length]);
    for (const [start, end] of spans) {
      cuts.add(Math.min(start, letters.length));
      cuts.add(Math.min(end, letters.length));
    }
    const places = [...cuts].sort((a, b) => a - b), result = [];
    for (let i = 0; i + 1 < places.length; i++) {
      const [start, end] = [places[i], places[i + 1]];
      const fired = spans.filter((span) => span[0] <= start && end <= span[1]).map((span) => span[2]);
      result.push([letters.slice(start, end).join(""), [...new Set(fired)]]);
    }
    return result;
  }

  /** Mark the words of labels in a text: spans for rows whose tokens were not read again. */
  function wordSpans(text, parts) {
    const words = new Map();
    for (const [feature] of parts) {
      for (const word of features.get(feature)?.[WORDS] ?? []) {
        const key = word.toLowerCase();
        words.set(key, [...(words.get(key) ?? []), feature]);
      }
    }
    const spans = [];
    if (!words.size) return spans;
    let start = 0, index = 0; // of the word, in characters and in UTF-16 units
    for (const match of text.matchAll(/[\p{L}\p{N}]+/gu)) {
      start += Array.from(text.slice(index, match.index)).length;
      index = match.index;
      const length = Array.from(match[0]).length;
      for (const feature of words.get(match[0].toLowerCase()) ?? []) spans.push([start, start + length, feature]);
    }
    return spans;
  }

  function fillText(place, pick, isWhole) {
    const letters = Array.from(pick.text);
    const shown = isWhole ? letters : letters.slice(0, SHOWN_LETTERS);
    const spans = pick.spans ?? wordSpans(shown.join(""), pick.parts);
    const kind = pick.spans ? "fires" : "word";
    place.replaceChildren();
    for (const [text, fired] of pieces(shown, spans)) {
      if (!fired.length) {
        place.append(text);
        continue;
      }
      const names = fired.map(title).join(", ");
      place.append(make("mark", { class: kind, "data-features": ` ${fired.join(" ")} `, title: names }, text));
    }
    if (shown.length < letters.length) place.append("…");
    if (shown.length === letters.length && pick.cut) {
      place.append(make("span", { class: "cut" }, ` … ${plural(pick.cut, "more character")} not in this file`));
    }
  }

  function pickText(pick) {
    const place = make("div", { class: "text", dir: "auto" });
    if (!pick.text && !pick.cut) return make("p", { class: "note" }, pick.blank ? "This row is blank." : "The text of this row is not known.");
    fillText(place, pick, false);
    if (Array.from(pick.text).length <= SHOWN_LETTERS) return place;
    const toggle = button("", { class: "link toggle", "aria-expanded": "false" }, () => {
      const isWhole = toggle.getAttribute("aria-expanded") === "false";
      toggle.setAttribute("aria-expanded", String(isWhole));
      label(isWhole);
      fillText(place, pick, isWhole);
    });
    const label = (isWhole) => {
      toggle.textContent = isWhole ? "Show less" : `Show all ${plural(Array.from(pick.text).length, "character")}`;
    };
    label(false);
    return make("div", {}, place, toggle);
  }

  function chip(article, [feature, share, activation, rows]) {
    const share_text = share === null ? "" : percent(share);
    const parts = [make("span", { class: "name" }, title(feature))];
    if (share_text) parts.push(make("span", { class: "share" }, share_text));
    const about = [share_text && `${share_text} of this pick's gain`, `in ${plural(rows, "row")} of the pool`, `activation ${activation}`];
    const element = make("button", { type: "button", class: "chip", title: about.filter(Boolean).join("; ") }, ...parts);
    element.addEventListener("click", () => showPicksOf(feature));
    const light = (isLit) => {
      for (const mark of article.querySelectorAll("mark")) {
        mark.classList.toggle("lit", isLit && mark.dataset.features.includes(` ${feature} `));
      }
    };
    for (const event of ["mouseenter", "focus"]) element.addEventListener(event, () => light(true));
    for (const event of ["mouseleave", "blur"]) element.addEventListener(event, () => light(false));
    return make("li", {}, element);
  }

  function neighbourList(rows) {
    return make(
      "ul", { class: "neighbours" },
      ...rows.map(([row, similarity]) => make(
        "li", {},
        make("span", { class: "where" }, `Row ${number(row)}, similarity ${similarity.toFixed(2)}`),
        data.rows[row] ? make("span", { class: "excerpt", dir: "auto" }, data.rows[row]) : null,
      )),
    );
  }

  function pickArticle(index) {
    const pick = data.picks[index];
    const article = make("article", { class: "pick", "aria-labelledby": `pick-${index}` });
    article.append(make(
      "header", {},
      make("h3", { id: `pick-${index}` }, make("span", { class: "ordinal" }, number(index)), make("span", { class: "where" }, `Row ${number(pick.row)}`)),
    ));
    const body = make("div", { class: "body" }, pickText(pick), make("p", { class: "why" }, pick.why));
    if (pick.parts.length) {
      body.append(make("ul", { class: "chips", "aria-label": "Features of this pick" }, ...pick.parts.map((part) => chip(article, part))));
      if (pick.more) body.append(make("p", { class: "note" }, `and ${plural(pick.more, "further feature")}`));
    }
    if (pick.stands) {
      const [count, rows] = pick.stands;
      body.append(make("details", {}, make("summary", {}, `Stands for ${plural(count, "row")} of the pool`), neighbourList(rows)));
    }
    if (pick.over) {
      const [row, gain, difference] = pick.over;
      const sentence = difference
        ? `It would have gained ${gain}, and its score was lower by ${difference}.`
        : "It had the same score, and came later in the order of equal rows.";
      body.append(make("details", {}, make("summary", {}, `Chosen over row ${number(row)}`),
        make("p", { class: "excerpt", dir: "auto" }, data.rows[row] ?? ""), make("p", { class: "note" }, sentence)));
    }
    article.append(body);
    return article;
  }

  function matching() {
    const query = byId("pick-search").value.trim().toLowerCase();
    let numbers = picks.feature === null ? data.picks.map((_, index) => index) : holdersOf(picks.feature);
    if (query) {
      picks.texts ??= data.picks.map((pick) => [pick.text, pick.why].join("\n").toLowerCase());
      const row = /^row ([\d,]+)$/.exec(query)?.[1].replaceAll(",", "");
      numbers = numbers.filter((index) => (row ? data.picks[index].row === Number(row) : picks.texts[index].includes(query)));
    }
    return numbers;
  }

  function drawPicks() {
    const numbers = matching();
    const pages = Math.max(1, Math.ceil(numbers.length / PICKS_A_PAGE));
    picks.page = Math.min(picks.page, pages - 1);
    const shown = numbers.slice(picks.page * PICKS_A_PAGE, (picks.page + 1) * PICKS_A_PAGE);
    byId("pick-list").replaceChildren(...shown.map(pickArticle));
    const has = picks.feature === null ? "" : ` with ${title(picks.feature)}`;
    byId("pick-count").textContent = numbers.length ? plural(numbers.length, "pick") + has : `No pick${has}${byId("pick-search").value ? " matches" : ""}`;
    const clear = byId("clear-feature");
    clear.hidden = picks.feature === null;
    pager(byId("pick-pages"), picks, pages, drawPicks);
  }

  function showPicksOf(feature) {
    picks.feature = feature;
    picks.page = 0;
    byId("pick-search").value = "";
    drawPicks();
    showPicks();
  }

  function showPicks() {
    const heading = byId("picks-heading");
    heading.focus({ preventScroll: true });
    heading.scrollIntoView({ block: "start" });
  }

  /** Show a pick, wherever the page stands. */
  function showPick(index) {
    picks.feature = null;
    byId("pick-search").value = "";
    picks.page = Math.floor(index / PICKS_A_PAGE);
    drawPicks();
    const heading = byId(`pick-${index}`);
    heading.tabIndex = -1;
    heading.focus({ preventScroll: true });
    heading.scrollIntoView({ block: "start" });
  }

  // ---- begin

  if (byId("feature-table")) {
    byId("feature-search").addEventListener("input", later(() => {
      table.page = 0;
      drawFeatures();
    }));
    for (const choice of document.querySelectorAll("input[name=feature-part]")) {
      choice.addEventListener("change", () => {
        table.page = 0;
        drawFeatures();
      });
    }
    for (const header of document.querySelectorAll("#feature-table thead th[data-column]")) {
      header.querySelector("button").addEventListener("click", () => sortBy(header));
    }
    drawFeatures();
  }
  if (byId("pick-list")) {
    byId("pick-search").addEventListener("input", later(() => {
      picks.page = 0;
      drawPicks();
    }));
    byId("clear-feature").addEventListener("click", () => {
      picks.feature = null;
      picks.page = 0;
      drawPicks();
      showPicks();
    });
    byId("go-to-pick").addEventListener("submit", (event) => {
      event.preventDefault();
      const wanted = Number(byId("pick-number").value);
      if (byId("pick-number").value && wanted >= 0 && wanted < data.picks.length) showPick(Math.floor(wanted));
    });
    drawPicks();
  }
  for (const link of document.querySelectorAll("button[data-pick]")) {
    link.addEventListener("click", () => showPick(Number(link.dataset.pick)));
  }
  document.documentElement.classList.add("ready");
  drawCharts().then(() => document.documentElement.classList.add("drawn"));
})();
