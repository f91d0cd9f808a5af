import { useChat } from "@ai-sdk/react";

export function Chat({ id, before, transport, onStop }) {
  const { messages, sendMessage, status, error } = useChat({ id, messages: before, resume: true, transport });
  return (
    <>
      {messages.map(({ id, role, parts }) => (
        <p key={id} className={role}>{parts.map((part) => part.text)}</p>
      ))}
      <p id="status" role="status">{error ? error.message : status}</p>
      <form action={(form) => sendMessage({ text: form.get("text") })}>
        <input name="text" aria-label="Message" autoComplete="off" />
        <button>Send</button>
        <button type="button" id="stop" disabled={status !== "streaming"} onClick={onStop}>Stop</button>
      </form>
    </>
  );
}
