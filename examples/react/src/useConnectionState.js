import { useSyncExternalStore } from "react";

/** "disconnected", "connecting" or "connected". */
export function useConnectionState(client) {
  return useSyncExternalStore(
    (changed) => {
      client.on("state", changed);
      return () => client.off("state", changed);
    },
    () => client.state,
  );
}
