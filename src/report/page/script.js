'use strict';
// Selecting groups: by mouse, keyboard, search, or the page's fragment (#group-3). Everything that comes from the
// model is shown as text.
(() => {
  const data = JSON.parse(document.getElementById('data').textContent);
  const details = document.getElementById('details');
  const title = document.getElementById('details-title');
  const graphs = [...document.querySelectorAll('svg[data-graph]')];
  const nodes = new Map();
  for (const node of document.querySelectorAll('.node')) {
    const group = Number(node.dataset.group);
    if (!nodes.has(group)) nodes.set(group, []);
    nodes.get(group).push(node);
  }
  let current = -1;
  let tab = 0;

  const element = (name, text, className) => {
    const e = document.createElement(name);
    if (text !== undefined) e.textContent = text;
    if (className) e.className = className;
    return e;
  };

  function reveal(node) {
    const pane = node.closest('.scroll');
    const a = node.getBoundingClientRect();
    const b = pane.getBoundingClientRect();
    if (a.top < b.top + 20 || a.bottom > b.bottom - 20) pane.scrollTop += a.top - b.top - b.height / 2 + a.height / 2;
    if (a.left < b.left || a.right > b.right) pane.scrollLeft += a.left - b.left - b.width / 2 + a.width / 2;
  }

  function tabs(texts) {
    const list = element('div', undefined, 'tabs');
    list.setAttribute('role', 'tablist');
    const code = element('pre');
    code.tabIndex = 0;
    code.setAttribute('role', 'tabpanel');
    const buttons = texts.map(([name, text], at) => {
      const button = element('button', name);
      button.type = 'button';
      button.setAttribute('role', 'tab');
      button.addEventListener('click', () => { tab = at; show(); });
      list.append(button);
      return button;
    });
    const show = () => {
      const at = Math.min(tab, texts.length - 1);
      buttons.forEach((b, i) => {
        b.setAttribute('aria-selected', String(i === at));
        b.tabIndex = i === at ? 0 : -1;
      });
      code.textContent = texts[at][1];
      code.scrollTop = 0;
    };
    list.addEventListener('keydown', event => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      tab = (Math.min(tab, texts.length - 1) + step + texts.length) % texts.length;
      show();
      buttons[tab].focus();
      event.preventDefault();
    });
    show();
    return [list, code];
  }

  function select(group) {
    const chosen = data.groups[group];
    if (!chosen) return;
    for (const node of nodes.get(current) || []) {
      node.classList.remove('selected');
      node.setAttribute('aria-selected', 'false');
    }
    current = group;
    for (const node of nodes.get(group) || []) {
      node.classList.add('selected');
      node.setAttribute('aria-selected', 'true');
    }
    for (const graph of graphs) {
      graph.classList.add('chosen');
      const first = (nodes.get(group) || []).find(n => graph.contains(n));
      if (first) {
        graph.setAttribute('aria-activedescendant', first.id);
        reveal(first);
      }
    }
    title.textContent = 'Group ' + (group + 1) + ' of ' + data.groups.length;
    const facts = element('dl', undefined, 'facts');
    for (const [label, value] of chosen.facts) {
      const pair = element('div');
      pair.append(element('dt', label), element('dd', value));
      facts.append(pair);
    }
    const ops = element('ul', undefined, 'ops');
    for (const [kind, name] of chosen.ops) {
      const item = element('li');
      item.append(element('b', kind), element('span', name));
      ops.append(item);
    }
    const texts = [...chosen.texts];
    if (chosen.code !== null) texts.push(['Machine code', data.codes[chosen.code]]);
    details.replaceChildren(
      element('h3', chosen.pattern),
      element('p', chosen.remapper || 'nest ' + chosen.nest, 'remapper'),
      facts, ops, ...tabs(texts));
    details.scrollTop = 0;
    history.replaceState(null, '', '#group-' + group);
  }

  function fragment() {
    const match = /^#group-(\d+)$/.exec(location.hash);
    if (match) select(Number(match[1]));
  }

  document.addEventListener('click', event => {
    const node = event.target.closest('.node');
    if (node) select(Number(node.dataset.group));
  });
  for (const graph of graphs) {
    graph.addEventListener('keydown', event => {
      const last = data.groups.length - 1;
      const to = {
        ArrowDown: Math.min(current + 1, last), ArrowRight: Math.min(current + 1, last),
        ArrowUp: Math.max(current - 1, 0), ArrowLeft: Math.max(current - 1, 0),
        Home: 0, End: last,
      }[event.key];
      if (to !== undefined) {
        select(to);
        event.preventDefault();
      } else if (event.key === 'Enter' || event.key === ' ') {
        if (current < 0) select(0);
        details.focus();
        event.preventDefault();
      }
    });
    // Wide graphs start a little smaller; text stays readable.
    const room = graph.parentElement.clientWidth - 12;
    const width = graph.viewBox.baseVal.width;
    if (room > 0 && width > room) scale(graph, Math.max(room / width, 0.7));
  }

  function scale(graph, factor) {
    const box = graph.viewBox.baseVal;
    const now = graph.width.baseVal.value / box.width;
    const next = Math.min(Math.max(now * factor, 0.1), 4);
    graph.setAttribute('width', box.width * next);
    graph.setAttribute('height', box.height * next);
  }

  for (const button of document.querySelectorAll('[data-zoom]')) {
    button.addEventListener('click', () => {
      const pane = document.getElementById(button.dataset.zoom);
      const at = pane.scrollTop / pane.scrollHeight;
      scale(pane.querySelector('svg'), Number(button.dataset.by));
      pane.scrollTop = at * pane.scrollHeight;
    });
  }

  document.getElementById('search').addEventListener('submit', event => {
    event.preventDefault();
    const wanted = document.getElementById('query').value.toLowerCase();
    if (!wanted) return;
    const fits = g => g.nest.toLowerCase().includes(wanted) || g.pattern.toLowerCase().includes(wanted)
      || g.ops.some(([kind, name]) => (kind + ' ' + name).toLowerCase().includes(wanted));
    const n = data.groups.length;
    for (let i = 1; i <= n; i++) {
      const at = (current + i + n) % n;
      if (fits(data.groups[at])) return select(at);
    }
  });
  window.addEventListener('hashchange', fragment);
  fragment();
})();
