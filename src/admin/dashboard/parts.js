// The building blocks of the page: elements without markup, lists that keep their rows (and the focus in them), graphs,
// times for people, and the API with its event stream.

const SVG = 'http://www.w3.org/2000/svg';

/** Creates an element. Strings become text, never markup; `on…` are listeners, `false` and `null` omit an attribute. */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith('on')) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? '' : String(value));
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Sets a text if it has changed, so that selections and screen readers are not disturbed. */
export function say(node, text) {
  text = String(text ?? '');
  if (node.textContent !== text) node.textContent = text;
}

/** Sets or removes an attribute, if that changes anything. */
export function mark(node, name, value) {
  if (value === false || value === null || value === undefined) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

/** The rows of each list, by key. */
const lists = new WeakMap();

/** Makes `items` the children of `parent`. An item with the same key keeps its element, and so its focus. */
export function keyed(parent, items, key, make, update) {
  if (!lists.has(parent)) lists.set(parent, new Map());
  const rows = lists.get(parent);
  const wanted = new Set(items.map(key));
  // Removed elements first: a moved element would lose the focus.
  for (const [name, row] of rows) {
    if (wanted.has(name)) continue;
    row.remove();
    rows.delete(name);
  }
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    let row = rows.get(name);
    if (!row) {
      row = make(item);
      rows.set(name, row);
    }
    update(row, item);
    if (row === place) place = place.nextElementSibling;
    else parent.insertBefore(row, place);
  }
}

/** Number of samples in a graph, one per second. */
const SAMPLES = 60;

/** The values of a number during the last minute. */
export class Series {
  values = [];

  add(value) {
    this.values.push(value);
    if (this.values.length > SAMPLES) this.values.shift();
  }
}

/** Creates a graph for a series. The number itself is shown beside it, so screen readers skip the graph. */
export function spark() {
  const svg = document.createElementNS(SVG, 'svg');
  for (const [name, value] of [['viewBox', `0 0 ${SAMPLES - 1} 16`], ['preserveAspectRatio', 'none'], ['aria-hidden', 'true'], ['class', 'spark']]) {
    svg.setAttribute(name, value);
  }
  for (const part of ['area', 'line']) {
    const path = document.createElementNS(SVG, 'path');
    path.setAttribute('class', part);
    svg.append(path);
  }
  return svg;
}

/** Redraws a graph. */
export function draw(svg, series) {
  const { values } = series;
  const top = Math.max(4, ...values);
  const at = (value, index) => `${SAMPLES - values.length + index},${(15 - (14 * value) / top).toFixed(1)}`;
  const line = values.length > 1 ? `M${values.map(at).join('L')}` : '';
  svg.lastChild.setAttribute('d', line);
  svg.firstChild.setAttribute('d', line && `${line}V16H${SAMPLES - values.length}Z`);
}

/** Returns a count with its noun. */
export const count = (number, noun) => `${number.toLocaleString('en')} ${noun}${number === 1 ? '' : 's'}`;

/** Returns a duration in its two largest units. */
export function length(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

/** Returns the time of day. */
export const clock = (time) => new Date(time).toLocaleTimeString([], { hour12: false });

const STORE = 'lameduck-token';

/** Access to the API. The token is kept as long as the tab is open. */
export class Api {
  token = sessionStorage.getItem(STORE) ?? '';
  /** Difference between the server's clock and the browser's, in milliseconds. */
  ahead = 0;

  keep(token) {
    this.token = token;
    if (token) sessionStorage.setItem(STORE, token);
    else sessionStorage.removeItem(STORE);
  }

  /** Returns the current time of the server. */
  now() {
    return Date.now() + this.ahead;
  }

  async ask(method, path, body, more = {}) {
    const headers = { accept: 'application/json' };
    if (this.token) headers.authorization = `Bearer ${this.token}`;
    if (body !== undefined) headers['content-type'] = 'application/json';
    return fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: 'no-store',
      credentials: 'same-origin',
      redirect: 'error',
      ...more,
    });
  }

  /** Returns a response; `null` if the path does not exist here. */
  async read(path) {
    const answer = await this.ask('GET', path, undefined, { signal: AbortSignal.timeout(10_000) });
    const date = Date.parse(answer.headers.get('date') ?? '');
    // The header field has whole seconds: only a larger difference means that the clocks differ.
    if (date) this.ahead = Math.abs(date - Date.now()) > 2000 ? date - Date.now() : 0;
    if (answer.status === 404) return null;
    if (!answer.ok) throw await refusal(answer);
    return answer.json();
  }

  /** Makes a change; returns its result, or throws an error with the reason. */
  async change(method, path, body) {
    const answer = await this.ask(method, path, body);
    if (!answer.ok) throw await refusal(answer);
    return answer.json().catch(() => ({}));
  }

  /** Follows the events until the stream ends. EventSource could not send the token. */
  async follow(begun, take, signal) {
    const answer = await this.ask('GET', '/v1/events', undefined, { signal, headers: this.#eventFields() });
    if (!answer.ok) throw await refusal(answer);
    begun();
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      text += value;
      let end;
      while ((end = text.indexOf('\n\n')) >= 0) {
        const event = { kind: 'message', data: '' };
        for (const line of text.slice(0, end).split('\n')) {
          if (line.startsWith('event: ')) event.kind = line.slice(7);
          if (line.startsWith('data: ')) event.data += line.slice(6);
        }
        text = text.slice(end + 2);
        // Comments keep the connection alive, and count as received data too.
        take(event.data ? { kind: event.kind, ...JSON.parse(event.data) } : null);
      }
    }
  }

  #eventFields() {
    const fields = { accept: 'text/event-stream' };
    if (this.token) fields.authorization = `Bearer ${this.token}`;
    return fields;
  }
}

/** Returns the API's refusal as an error. */
async function refusal(answer) {
  const problem = await answer.json().catch(() => ({}));
  const error = new Error(problem.detail ?? `The answer was ${answer.status}.`);
  error.status = answer.status;
  return error;
}
