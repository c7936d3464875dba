// The changes that the page can make, and the dialog that asks for confirmation.

import { el, say } from './parts.js';

const id = (name) => document.getElementById(name);
const part = encodeURIComponent;

/** Asks, then makes the change. `fields`: [name, label, input]. If the API refuses, the dialog shows the reason. */
export function ask({ title, text, yes, fields = [], danger = false }, act) {
  const dialog = id('ask');
  say(id('ask-title'), title);
  say(id('ask-text'), text);
  say(id('ask-yes'), yes);
  id('ask-yes').classList.toggle('danger', danger);
  id('ask-error').hidden = true;
  id('ask-fields').replaceChildren(
    ...fields.map(([name, label, input]) => {
      input.name = name;
      const check = input.type === 'checkbox';
      return el('label', { class: check ? 'check' : 'field' }, ...(check ? [input, label] : [label, input]));
    }),
  );
  return new Promise((resolve) => {
    let busy = false;
    const close = (done) => {
      id('ask-form').onsubmit = id('ask-no').onclick = dialog.oncancel = null;
      dialog.close();
      // Removes the entered token from the page.
      id('ask-fields').replaceChildren();
      resolve(done);
    };
    id('ask-no').onclick = () => close(false);
    dialog.oncancel = (event) => {
      event.preventDefault();
      close(false);
    };
    id('ask-form').onsubmit = async (event) => {
      event.preventDefault();
      if (busy) return;
      busy = true;
      const values = {};
      for (const [name, , input] of fields) values[name] = input.type === 'checkbox' ? input.checked : input.value.trim();
      try {
        await act(values);
        close(true);
      } catch (error) {
        say(id('ask-error'), error.message);
        id('ask-error').hidden = false;
      }
      busy = false;
    };
    dialog.showModal();
  });
}

const input = (attributes) => el('input', { autocomplete: 'off', spellcheck: 'false', ...attributes });
const reason = () => ['reason', 'Reason (for the log)', input({ maxlength: 500 })];
const backendPath = (pool, name) => `/v1/pools/${part(pool)}/backends/${part(name)}`;
/** Returns the values without empty ones. */
const filled = (values) => Object.fromEntries(Object.entries(values).filter(([, value]) => value !== ''));

/** The actions; `done` is called with a text about the result. */
export function actions(api, done) {
  return {
    drain(pool, backend) {
      const until = el('select', {}, el('option', { value: 'resumed' }, 'somebody resumes it'), el('option', { value: 'restarted' }, 'its process has restarted'));
      return ask(
        {
          title: `Drain ${pool}/${backend.name}?`,
          text: `It gets no new requests. ${backend.in_flight} in flight may finish; what is left at the deadline is cut.`,
          yes: 'Drain',
          danger: true,
          fields: [['timeout', 'Deadline, such as 30s (empty: the pool’s)', input({ placeholder: '30s' })], ['until', 'Until', until], reason()],
        },
        async (values) => {
          await api.change('POST', `${backendPath(pool, backend.name)}/drain`, { ...filled(values), wait: false });
          done(`${pool}/${backend.name} drains.`);
        },
      );
    },

    resume(pool, backend) {
      const others = [...new Set(backend.drains.map((drain) => drain.actor))].filter((actor) => actor !== 'operator');
      const fields = others.length ? [['all', `The drains of others (${others.join(', ')}), too`, input({ type: 'checkbox' })]] : [];
      return ask(
        {
          title: `Resume ${pool}/${backend.name}?`,
          text: 'Lifts the operators’ drains. It gets requests again when its health checks pass.',
          yes: 'Resume',
          fields,
        },
        async (values) => {
          await api.change('POST', `${backendPath(pool, backend.name)}/resume`, { all: values.all ?? false });
          done(`The drain of ${pool}/${backend.name} is lifted.`);
        },
      );
    },

    pause(pool) {
      return ask(
        {
          title: `Pause pool ${pool.name}?`,
          text: 'Its requests wait until the pause ends; those in flight go on.',
          yes: 'Pause',
          danger: true,
          fields: [['for', 'For how long, at most 1h', input({ value: '5m' })], reason()],
        },
        async (values) => {
          await api.change('POST', `/v1/pools/${part(pool.name)}/pause`, filled(values));
          done(`Pool ${pool.name} is paused.`);
        },
      );
    },

    unpause(pool) {
      return ask(
        {
          title: `End the pause of pool ${pool.name}?`,
          text: `Its requests go to its backends again, ${pool.held} that wait first.`,
          yes: 'End the pause',
        },
        async () => {
          await api.change('DELETE', `/v1/pools/${part(pool.name)}/pause`);
          done(`Pool ${pool.name} is no longer paused.`);
        },
      );
    },

    split(split) {
      const fields = Object.entries(split.weights).map(([pool, weight]) => [
        pool,
        `Weight of ${pool}`,
        input({ type: 'number', min: 0, max: 1000000, required: true, value: weight }),
      ]);
      const plan = split.plan?.state === 'running' ? ' The plan that moves it now ends.' : '';
      return ask(
        {
          title: `Set the split of route ${split.route}?`,
          text: `From now on new requests go by these weights.${plan}`,
          yes: 'Set',
          danger: true,
          fields,
        },
        async (values) => {
          const weights = Object.fromEntries(Object.entries(values).map(([pool, weight]) => [pool, Number(weight)]));
          await api.change('PUT', `/v1/routes/${part(split.route)}/split`, { weights });
          done(`The split of route ${split.route} is set.`);
        },
      );
    },

    unlock() {
      return ask(
        {
          title: 'Enter the admin token',
          text: 'It is the content of [admin] token_file. This tab keeps it until it is closed, and sends it to this address only.',
          yes: 'Unlock',
          fields: [['token', 'Token', input({ type: 'password', required: true })]],
        },
        async ({ token }) => {
          const before = api.token;
          api.keep(token);
          const access = await api.read('/v1/access').catch((error) => ({ error }));
          if (!access?.change) {
            api.keep(before);
            throw access?.error ?? new Error('This is not the token in [admin] token_file.');
          }
          done('The token is right: everything can be changed now.');
        },
      );
    },
  };
}
