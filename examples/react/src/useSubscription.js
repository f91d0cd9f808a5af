import { useEffect, useRef } from "react";

/** Calls `onPublication` with each publication of `channel`, as long as the component is there. */
export function useSubscription(client, channel, onPublication) {
  const latest = useRef(onPublication);
  useEffect(() => {
    latest.current = onPublication;
  });
  useEffect(() => {
    const subscription = client.newSubscription(channel);
    subscription.on("publication", (publication) => latest.current(publication));
    subscription.subscribe();
    return () => {
      subscription.unsubscribe();
      client.removeSubscription(subscription);
    };
  }, [client, channel]);
}
