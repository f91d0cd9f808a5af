import { Centrifuge } from "centrifuge";
import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { useConnectionState } from "./useConnectionState.js";
import { useSubscription } from "./useSubscription.js";

const scheme = location.protocol === "https:" ? "wss" : "ws";
const client = new Centrifuge(`${scheme}://${location.host}/live/connection/websocket`);
client.connect();

function Price({ symbol }) {
  const [price, setPrice] = useState(null);
  useSubscription(client, `price:${symbol}`, ({ data }) => setPrice(data.price));
  return (
    <tr>
      <td>{symbol}</td>
      <td data-symbol={symbol}>{price === null ? "" : price.toFixed(2)}</td>
    </tr>
  );
}

function Prices() {
  const state = useConnectionState(client);
  const [symbols, setSymbols] = useState(["ACRN", "BROK", "FRSH"]);
  return (
    <>
      <h1>Prices</h1>
      <p role="status" id="state">
        {state}
      </p>
      <table>
        <tbody>
          {symbols.map((symbol) => (
            <Price key={symbol} symbol={symbol} />
          ))}
        </tbody>
      </table>
      <button onClick={() => setSymbols(symbols.slice(0, -1))} disabled={symbols.length === 0}>
        Remove the last
      </button>
    </>
  );
}

createRoot(document.getElementById("root")).render(
  <StrictMode>
    <Prices />
  </StrictMode>,
);
