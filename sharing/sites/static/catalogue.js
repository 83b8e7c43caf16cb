// Search of the catalogue: everything is in the page, nothing is fetched. Without script the whole list stays readable.
"use strict";
(() => {
  const box = document.getElementById("q");
  const cards = [...document.querySelectorAll("[data-entry]")].map((node, order) => ({
    node, order, strong: node.dataset.strong, weak: node.dataset.weak,
    columns: [...node.querySelectorAll("[data-column]")].map((c) => ({ node: c, text: c.textContent.toLowerCase() })),
  }));
  const list = document.getElementById("list"), count = document.getElementById("count"), none = document.getElementById("none");
  const filters = [...document.querySelectorAll("select[data-filter]")];
  const han = /[\u3400-\u9fff]/;
  const person = document.getElementById("person"), asksForPersons = /姓名|名字|电话|手机|身份证|证件/;
  // Words people use for what the catalogue calls otherwise.
  const also = { "人数": ["人次"], "swim": ["游泳"], "swimming": ["游泳"], "xuhui": ["徐汇"] };
  const idle = new Set(["上周", "下周", "本周", "昨天", "今天", "多少", "哪些", "哪个", "有没", "没有", "什么", "怎么", "一下", "我要", "查询", "数据", "的人", "有多", "少人", "个人"]);

  // A word is looked for whole; Chinese text that is found nowhere is looked for by pairs of characters.
  function terms(text) {
    const words = text.toLowerCase().split(/[\s,，。？?、；;:：()（）]+/).filter(Boolean);
    const out = [];
    for (const word of words) {
      if (word.length <= 2 || !han.test(word) || cards.some((c) => c.strong.includes(word) || c.weak.includes(word))) { out.push([word]); continue; }
      const pairs = [];
      for (let i = 0; i + 2 <= word.length; i += 1) {
        const pair = word.slice(i, i + 2);
        if (!idle.has(pair) && cards.some((c) => c.strong.includes(pair) || c.weak.includes(pair) || c.columns.some((x) => x.text.includes(pair)))) pairs.push(pair);
      }
      pairs.forEach((pair) => out.push([pair]));
      if (!pairs.length) out.push([word]);
    }
    return out.map((t) => t[0]).filter((t, i, all) => all.indexOf(t) === i);
  }

  function score(card, words) {
    let total = 0, found = 0;
    for (const column of card.columns) column.node.hidden = true;
    for (const word of words) {
      let best = 0;
      for (const said of [word, ...(also[word] || [])]) {
        if (card.strong.includes(said)) best = 6;
        for (const column of card.columns) if (column.text.includes(said)) { column.node.hidden = false; best = Math.max(best, 4); }
        if (card.weak.includes(said)) best = Math.max(best, 2);
      }
      if (best) found += 1;
      total += best;
    }
    return found ? total + found * 10 : 0;
  }

  function run() {
    const words = terms(box.value);
    const kept = cards.filter((c) => filters.every((f) => !f.value || c.node.dataset[f.dataset.filter] === f.value));
    const ranked = kept.map((c) => ({ c, s: words.length ? score(c, words) : 1 })).filter((x) => x.s > 0);
    if (words.length) ranked.sort((a, b) => b.s - a.s || a.c.order - b.c.order); else for (const c of cards) for (const x of c.columns) x.node.hidden = true;
    cards.forEach((c) => { c.node.hidden = true; });
    ranked.forEach((x) => { x.c.node.hidden = false; list.append(x.c.node); });
    if (!words.length) cards.forEach((c) => list.append(c.node));
    count.textContent = String(ranked.length);
    person.hidden = !asksForPersons.test(box.value);
    none.hidden = ranked.length > 0 || !person.hidden;
    const wanted = box.value ? `#q=${encodeURIComponent(box.value)}` : "";
    if (window.location.hash !== wanted) window.history.replaceState(null, "", window.location.pathname + wanted);
  }

  const asked = /[#&]q=([^&]*)/.exec(window.location.hash);
  if (asked) box.value = decodeURIComponent(asked[1]);
  box.addEventListener("input", run);
  filters.forEach((f) => f.addEventListener("change", run));
  document.querySelectorAll("[data-ask]").forEach((b) => b.addEventListener("click", () => { box.value = b.dataset.ask; run(); box.focus(); }));
  document.getElementById("search").hidden = false;
  run();
})();
