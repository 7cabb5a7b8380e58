document.documentElement.classList.add('live');
for (const box of document.querySelectorAll('.tabbed')) {
  const tabs = [...box.querySelector('.tabs').children], panes = [...box.children].filter(e => e.classList.contains('pane'));
  const show = k => { tabs.forEach((t, i) => t.setAttribute('aria-selected', i === k));
    panes.forEach((p, i) => p.classList.toggle('shown', i === k)); };
  tabs.forEach((t, i) => t.addEventListener('click', () => show(i)));
  show(0);
}
const zoom = document.getElementById('zoom');
zoom.addEventListener('click', () => zoom.close());
const picture = address => { const image = new Image(); image.decoding = 'async'; image.src = address; image.alt = ''; return image; };
function panel(title, photo, layer, kind) {
  const figure = document.createElement('figure'), stack = document.createElement('button');
  stack.type = 'button'; stack.className = 'stack ' + kind; stack.setAttribute('aria-label', title + ', enlarge');
  stack.append(picture(photo)); if (layer) stack.append(picture(layer));
  stack.addEventListener('click', () => { zoom.replaceChildren(stack.cloneNode(true)); zoom.showModal(); });
  const caption = document.createElement('figcaption'); caption.textContent = title;
  figure.append(stack, caption); return figure;
}
const stores = {};
const store = id => stores[id] ??= JSON.parse(document.getElementById(id).textContent);
function fill(shot) {
  const [id, at] = shot.dataset.shot.split('#'), data = store(id)[at], box = shot.querySelector('.panels');
  if (box.childElementCount) return;
  box.append(panel('image', data.image, null, ''), panel('truth', data.image, data.truth, 'label'),
             panel('prediction', data.image, data.prediction, 'label'), panel('error', data.image, data.error, 'error'));
}
const arrive = entries => entries.filter(e => e.isIntersecting).forEach(e => { fill(e.target); seen.unobserve(e.target); });
const seen = new IntersectionObserver(arrive, { rootMargin: '600px' });
document.querySelectorAll('.shot').forEach(shot => seen.observe(shot));
for (const mix of document.querySelectorAll('.mix input'))
  mix.addEventListener('input', () => document.documentElement.style.setProperty('--overlay', mix.value));
addEventListener('beforeprint', () => document.querySelectorAll('.shot').forEach(fill));
