/**
 * How far a run is, as a component of LangGraph's generative UI.
 *
 * Agent Chat UI and deep-agents-ui draw it under the message that says the same in words. To serve it, use
 * langgraph.ui.json; `langgraph dev` then needs Node.js, and fetches its bundler from npm.
 */

type Props = { text: string; phase: string; steps: Record<string, string> };

const MARKS: Record<string, string> = {
  waiting: "○",
  running: "◐",
  done: "●",
  failed: "✕",
  skipped: "–",
  blocked: "✕",
};

function Progress({ text, steps }: Props) {
  const named = Object.entries(steps);
  if (named.length === 0) return <p role="status">{text}</p>;
  return (
    <ul role="status" aria-label={text} style={{ listStyle: "none", padding: 0 }}>
      {named.map(([step, status]) => (
        <li key={step}>
          <span aria-hidden="true">{MARKS[status] ?? "○"}</span> {step}: {status}
        </li>
      ))}
    </ul>
  );
}

export default { progress: Progress };
