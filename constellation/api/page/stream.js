// Server-sent events by fetch, which unlike EventSource can say who asks. Reconnects for ever, slower each time.

const WAIT_S = [1, 2, 4, 8, 15];
const KEY = "constellation-token";

export const token = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => sessionStorage.setItem(KEY, value),
  clear: () => sessionStorage.removeItem(KEY),
};

/** A GET with the token, if there is one. */
export function ask(path, signal) {
  const held = token.get();
  return fetch(path, { cache: "no-store", signal, headers: held ? { Authorization: `Bearer ${held}` } : {} });
}

/**
 * Call `on(kind, data)` for every event, and `state(what)` when the connection changes: "live", "refused" with a status,
 * or "waiting" with seconds. After "refused" it waits until `resume` of what it returns is called.
 */
export function listen(path, on, state) {
  let resume = () => {};
  const resumed = () => new Promise((resolve) => { resume = resolve; });
  (async () => {
    for (let failures = 0; ; ) {
      try {
        const reply = await ask(path);
        if (reply.status === 401 || reply.status === 403) {
          state("refused", reply.status);
          await resumed();
          continue;
        }
        if (!reply.ok) throw new Error(`${reply.status}`);
        state("live");
        for await (const [kind, data] of events(reply.body)) {
          failures = 0;
          on(kind, JSON.parse(data));
        }
      } catch (error) {
        if (!(error instanceof TypeError) && !(error instanceof Error && /^\d+$/.test(error.message))) console.warn(error);
      }
      const wait = WAIT_S[Math.min(failures++, WAIT_S.length - 1)];
      state("waiting", wait);
      await new Promise((resolve) => setTimeout(resolve, wait * 1000));
    }
  })();
  return { resume: () => resume() };
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const lines = text.slice(0, end).split("\n");
      const of = (name) => lines.filter((line) => line.startsWith(`${name}: `)).map((line) => line.slice(name.length + 2)).join("\n");
      yield [of("event"), of("data")];
    }
  }
}
