// The blind test: which picture of two. Pairs, their order and their sides are in the page; answers are kept by the browser.
(function () {
  'use strict';
  var pairs = JSON.parse(document.getElementById('pairs').textContent);
  var at = function (id) { return document.getElementById('test-' + id); };
  var section = document.getElementById('blind'), box = document.getElementById('test');
  var key = 'conceptfarm ' + location.pathname + ' ' + fold(JSON.stringify(pairs));
  var answers = read(), now = 0, shown = 0;

  if (!pairs.length) {
    section.querySelector('p').textContent = 'There are no two pictures of one prompt to compare.';
    return;
  }
  at('controls').hidden = false;
  while (now < pairs.length && answers[now]) now++;
  at('begin').textContent = now > 0 && now < pairs.length ? 'Go on' : 'Begin';
  if (now === pairs.length) end();
  offer();

  at('begin').onclick = begin;
  at('left').onclick = function () { answer('left'); };
  at('right').onclick = function () { answer('right'); };
  at('neither').onclick = function () { answer('neither'); };
  at('back').onclick = back;
  at('save').onclick = save;
  at('again').onclick = forget;
  document.addEventListener('keydown', function (event) {
    var does = { ArrowLeft: 'left', ArrowRight: 'right', ' ': 'neither', Backspace: 'back' }[event.key];
    if (!does || box.hidden || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === ' ' && event.target.tagName === 'BUTTON' && event.target.id !== 'test-begin' && !inView()) return;
    event.preventDefault();
    if (does === 'back') back(); else answer(does);
  });

  // A short name for these pairs, so that another report's answers are not taken for this one's.
  function fold(text) {
    var h = 2166136261;
    for (var i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 16777619);
    return (h >>> 0).toString(16);
  }
  function read() {
    try { return JSON.parse(localStorage.getItem(key)) || []; } catch (e) { return []; }
  }
  function keep() {
    try { localStorage.setItem(key, JSON.stringify(answers)); } catch (e) { /* private windows: kept while the page is open */ }
  }
  function inView() {
    var r = box.getBoundingClientRect();
    return r.bottom > 0 && r.top < innerHeight;
  }
  function offer() {
    at('save').hidden = at('again').hidden = !answers.length;
    at('back').hidden = box.hidden || now === 0;
    at('neither').hidden = at('keys').hidden = box.hidden;
    at('begin').hidden = !box.hidden || now === pairs.length;
  }
  function picture(id) {
    var image = document.getElementById(id).cloneNode();
    image.removeAttribute('id');
    image.alt = '';
    return image;
  }
  function show() {
    var p = pairs[now];
    at('count').textContent = 'Question ' + (now + 1) + ' of ' + pairs.length;
    at('question').textContent = p.asks === 'text' ? 'Which picture shows this better: \u201c' + p.say + '\u201d?'
      : 'Which picture shows more of this very ' + (p.say || 'subject') + '?';
    at('own').replaceChildren.apply(at('own'), (p.own || []).map(picture));
    at('left').replaceChildren(picture(p.left));
    at('right').replaceChildren(picture(p.right));
    shown = Date.now();
    offer();
  }
  function begin() {
    box.hidden = false;
    at('result').replaceChildren();
    show();
    at('left').focus({ preventScroll: true });
    box.scrollIntoView({ block: 'start' });
  }
  function answer(choice) {
    answers[now] = { choice: choice, seconds: (Date.now() - shown) / 1000 };
    keep();
    now++;
    if (now < pairs.length) show(); else end();
  }
  function back() {
    if (now === 0) return;
    now--;
    show();
  }
  function forget() {
    if (!confirm('Forget all answers?')) return;
    answers = [];
    now = 0;
    keep();
    box.hidden = true;
    at('result').replaceChildren();
    at('begin').textContent = 'Begin';
    offer();
  }
  function end() {
    box.hidden = true;
    tell();
    offer();
  }
  // How often each model was preferred to each other one, told only now.
  function tell() {
    var counts = {}, table = document.createElement('table');
    pairs.forEach(function (p, i) {
      var a = p.a < p.b ? p.a : p.b, b = a === p.a ? p.b : p.a, name = [p.asks, a, b].join('\n');
      var c = counts[name] = counts[name] || [p.asks, a, b, 0, 0, 0];
      var won = answers[i] && (answers[i].choice === 'left' ? p.a : answers[i].choice === 'right' ? p.b : null);
      c[won === a ? 3 : won === b ? 4 : 5]++;
    });
    row(table, 'th', ['asked', 'first', 'second', 'first preferred', 'second preferred', 'neither']);
    Object.keys(counts).sort().forEach(function (name) { row(table, 'td', counts[name]); });
    at('result').replaceChildren(table);
  }
  function row(table, kind, cells) {
    var tr = table.insertRow();
    cells.forEach(function (text) {
      var cell = document.createElement(kind);
      cell.textContent = text;
      if (typeof text === 'number') cell.className = 'n';
      tr.appendChild(cell);
    });
  }
  function csv() {
    var quote = function (v) { return '"' + String(v).replace(/"/g, '""') + '"'; };
    var lines = ['question,asks,prompt,picture,left,right,choice,preferred,seconds'];
    pairs.forEach(function (p, i) {
      var x = answers[i];
      if (!x) return;
      lines.push([i + 1, p.asks, quote(p.prompt), p.picture, quote(p.a), quote(p.b), x.choice,
        quote(x.choice === 'left' ? p.a : x.choice === 'right' ? p.b : ''), x.seconds.toFixed(1)].join(','));
    });
    return lines.join('\r\n') + '\r\n';
  }
  function save() {
    var link = document.createElement('a');
    link.href = URL.createObjectURL(new Blob([csv()], { type: 'text/csv' }));
    link.download = 'preferences.csv';
    link.click();
    URL.revokeObjectURL(link.href);
  }
})();
