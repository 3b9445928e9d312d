'use strict';

const find = id => document.getElementById(id);
const settings = [...document.querySelectorAll('[data-setting]')];
// Images are dimmed after so many seconds.
const OLD = 5;
let captionHeight = 0;
let content = {tiles: [], classes: [], settings: {}, timeline: null};
// Settings that were sent and not yet confirmed keep what the user chose.
const sending = new Map();

// --- Sending -------------------------------------------------------------------------------

async function send(changes) {
  const names = Object.keys(changes);
  names.forEach(name => sending.set(name, (sending.get(name) || 0) + 1));
  let refusal = '';
  try {
    const answer = await fetch('settings', {
      method: 'POST',
      headers: {'Content-Type': 'application/json'},
      body: JSON.stringify(changes),
    });
    if (!answer.ok) refusal = await answer.text();
  } catch (error) {
    refusal = 'The server does not answer.';
  }
  names.forEach(name => sending.set(name, sending.get(name) - 1));
  find('refusal').textContent = refusal;
  find('refusal').hidden = !refusal;
  if (refusal) showSettings();
}

function sendSetting(name, input) {
  const value = input.type === 'checkbox' ? input.checked : Number(input.value);
  send({[name]: value});
}

function sendClasses() {
  const boxes = [...find('classes').querySelectorAll('input')];
  const chosen = boxes.filter(box => box.checked).map(box => box.value);
  // An empty list means all classes, here and in the node.
  send({overlay_classes: chosen.length === boxes.length ? [] : chosen});
}

// --- Showing -------------------------------------------------------------------------------

function element(kind, properties, ...children) {
  const made = Object.assign(document.createElement(kind), properties);
  made.append(...children);
  return made;
}

function makeTile(tile, index) {
  const image = element('img', {alt: tile.name});
  const button = element('button', {type: 'button', ariaLabel: `enlarge ${tile.name}`}, image);
  button.addEventListener('click', () => enlarge(index));
  const caption = element(
    'figcaption', {},
    element('b', {textContent: tile.name}), element('span', {className: 'text'}),
    element('div', {}),
  );
  return element('figure', {className: 'tile'}, button, caption);
}

function enlarge(index) {
  const tiles = [...find('tiles').children];
  if (index >= tiles.length) return;
  const solo = !tiles[index].classList.contains('solo') && tiles.length > 1;
  tiles.forEach((tile, each) => tile.classList.toggle('solo', solo && each === index));
  find('tiles').classList.toggle('solo', solo);
  arrange();
}

// Chooses the number of columns that shows the images largest.
function arrange() {
  const tiles = find('tiles');
  const shown = [...tiles.children].filter(tile => tile.offsetParent);
  const image = tiles.querySelector('img[src]');
  const aspect = image && image.naturalWidth ? image.naturalWidth / image.naturalHeight : 4 / 3;
  const gap = parseFloat(getComputedStyle(tiles).columnGap);
  let best = 0;
  for (let columns = 1; columns <= shown.length; columns++) {
    const rows = Math.ceil(shown.length / columns);
    const width = (tiles.clientWidth - gap * (columns - 1)) / columns;
    const height = (tiles.clientHeight - gap * (rows - 1)) / rows - captionHeight;
    best = Math.max(best, Math.floor(Math.min(width, aspect * height)));
  }
  tiles.style.setProperty('--width', `${best}px`);
  tiles.style.setProperty('--aspect', aspect);
}

function showAge(seconds) {
  return seconds < 1 ? `${(1000 * seconds).toFixed(0)} ms` : `${seconds.toFixed(1)} s`;
}

function showTiles(images) {
  const names = content.tiles.map(tile => tile.name).join('\n');
  if (find('tiles').dataset.names !== names) {
    find('tiles').dataset.names = names;
    find('tiles').classList.remove('solo');
    find('tiles').replaceChildren(...content.tiles.map(makeTile));
    arrange();
  }
  content.tiles.forEach((tile, index) => {
    const figure = find('tiles').children[index];
    const image = figure.querySelector('img');
    if (images[index].size) {
      const old = image.src;
      image.src = URL.createObjectURL(images[index]);
      image.onload = () => {
        URL.revokeObjectURL(old);
        if (!old) arrange();
      };
    } else if (!tile.version) {
      image.removeAttribute('src');
    }
    const facts = tile.age === null ? tile.facts : [...tile.facts, ['age', showAge(tile.age)]];
    figure.querySelector('div').replaceChildren(...facts.map(([name, value]) => element(
      'span', {}, `${name} `, element('i', {textContent: value}),
    )));
    figure.classList.toggle('old', tile.age > OLD);
    const text = figure.querySelector('.text');
    text.textContent = tile.text;
    text.className = `text ${tile.level}`;
  });
  const captions = [...find('tiles').querySelectorAll('figcaption')];
  const height = Math.max(...captions.map(caption => caption.offsetHeight), 0);
  if (height !== captionHeight) {
    captionHeight = height;
    arrange();
  }
}

function showSettings() {
  settings.forEach(label => {
    const name = label.dataset.setting;
    const value = content.settings[name];
    label.hidden = value === undefined;
    const input = label.querySelector('input');
    const isTyping = input.type === 'number' && input === document.activeElement;
    if (value === undefined || sending.get(name) || input.dataset.held || isTyping) return;
    if (input.type === 'checkbox') input.checked = value;
    else input.value = value;
    const output = label.querySelector('.value');
    if (output) output.textContent = `${Math.round(100 * input.value)} %`;
  });
  const chosen = content.settings.overlay_classes || [];
  if (!sending.get('overlay_classes')) {
    find('classes').querySelectorAll('input').forEach(box => {
      box.checked = !chosen.length || chosen.includes(box.value);
      box.disabled = content.settings.overlay_classes === undefined;
    });
  }
  find('all').hidden = !chosen.length;
}

function makeClass([name, color]) {
  const box = element('input', {type: 'checkbox', value: name});
  box.addEventListener('change', sendClasses);
  const swatch = element('span', {className: 'swatch'});
  swatch.style.background = color;
  return element('li', {}, element(
    'label', {}, box, swatch, element('span', {className: 'name', textContent: name, title: name}),
    element('meter', {max: 1}), element('output', {}),
  ));
}

function showClasses() {
  const list = find('classes').querySelector('ul');
  const names = content.classes.join('\n');
  if (content.classes.length && list.dataset.names !== names) {
    list.dataset.names = names;
    list.replaceChildren(...content.classes.map(makeClass));
  }
  find('classes').hidden = !list.children.length;
  [...list.children].forEach((row, index) => {
    const fraction = content.fractions[index];
    row.querySelector('meter').value = fraction || 0;
    row.querySelector('output').textContent =
      fraction === undefined ? '-' : `${(100 * fraction).toFixed(1)} %`;
  });
}

function showTimeline() {
  const timeline = content.timeline;
  find('player').hidden = !timeline;
  document.body.classList.toggle('recording', Boolean(timeline));
  if (!timeline) return;
  find('play').textContent = timeline.playing ? 'pause' : 'play';
  ['first', 'back', 'forward', 'last', 'position', 'place'].forEach(id => {
    find(id).hidden = !timeline.count;
  });
  const slider = find('position');
  slider.max = Math.max(timeline.count - 1, 0);
  if (!slider.dataset.held && !sending.get('position')) slider.value = timeline.position;
  const place = `${timeline.position + 1} / ${timeline.count} · ${timeline.seconds.toFixed(2)} s`;
  find('place').textContent = place;
  slider.setAttribute('aria-valuetext', place);
}

function show(images) {
  showHealth(content.text, content.level);
  showTiles(images);
  showClasses();
  showSettings();
  showTimeline();
}

function showHealth(text, level) {
  const health = find('health');
  if (health.textContent !== text) health.textContent = text;
  health.className = level;
}

// --- Receiving -----------------------------------------------------------------------------

async function receive(after) {
  const answer = await fetch(`frames?after=${after}`);
  if (!answer.ok) throw new Error(await answer.text());
  const data = new Uint8Array(await answer.arrayBuffer());
  let place = data.indexOf(10);
  content = JSON.parse(new TextDecoder().decode(data.subarray(0, place)));
  place += 1;
  show(content.tiles.map(tile => {
    const image = new Blob([data.subarray(place, place + tile.bytes)], {type: 'image/jpeg'});
    place += tile.bytes;
    return image;
  }));
  return content.version;
}

const pause = milliseconds => new Promise(done => { setTimeout(done, milliseconds); });
const visible = () => new Promise(done => {
  const check = () => {
    if (document.hidden) return;
    document.removeEventListener('visibilitychange', check);
    done();
  };
  document.addEventListener('visibilitychange', check);
  check();
});

async function run() {
  let after = -1;
  for (;;) {
    // A page that nobody sees asks for nothing, and so nothing is computed for it.
    await visible();
    try {
      const version = await receive(after);
      // A server that was started again counts from the beginning.
      after = version < after ? -1 : version;
    } catch (error) {
      showHealth(error instanceof TypeError
        ? 'The server of this page does not answer; trying again.' : error.message, 'error');
      after = -1;
      await pause(1000);
    }
  }
}

// --- Controls ------------------------------------------------------------------------------

const togglePlay = () => send({playing: !content.timeline.playing});
const moves = {
  first: () => send({position: 0}),
  back: () => send({step: -1}),
  play: togglePlay,
  forward: () => send({step: 1}),
  last: () => send({position: content.timeline.count - 1}),
};
Object.entries(moves).forEach(([id, move]) => find(id).addEventListener('click', move));
find('position').addEventListener('input', event => send({position: Number(event.target.value)}));
find('all').addEventListener('click', () => send({overlay_classes: []}));

settings.forEach(label => {
  const input = label.querySelector('input');
  // Sliders send while they move; a number when it is complete.
  const event = input.type === 'range' ? 'input' : 'change';
  input.addEventListener(event, () => sendSetting(label.dataset.setting, input));
});
document.querySelectorAll('input[type=range]').forEach(input => {
  input.addEventListener('pointerdown', () => { input.dataset.held = 'yes'; });
  ['pointerup', 'pointercancel'].forEach(event => {
    input.addEventListener(event, () => { delete input.dataset.held; });
  });
});

function changeOpacity(step) {
  const now = content.settings.overlay_alpha;
  if (now !== undefined) {
    send({overlay_alpha: Math.min(Math.max(Math.round(20 * (now + step)) / 20, 0), 1)});
  }
}

const keys = {
  ' ': moves.play, 'ArrowLeft': moves.back, 'ArrowRight': moves.forward, 'Home': moves.first,
  'End': moves.last,
};

document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const target = event.target;
  // What has the focus keeps the keys that it knows.
  if (target.matches('input:not([type=checkbox])')) return;
  if (event.key === ' ' && target.matches('button, input')) return;
  if (event.key === '[') changeOpacity(-0.1);
  else if (event.key === ']') changeOpacity(0.1);
  else if (/^[1-9]$/.test(event.key)) enlarge(Number(event.key) - 1);
  else if (content.timeline && keys[event.key]) keys[event.key]();
  else return;
  event.preventDefault();
});

addEventListener('resize', arrange);
// The token stays in the cookie, not in the address that is seen and copied.
history.replaceState(null, '', location.pathname);
run();
