// A receiver of Freshet's webhooks in Node, with nothing but Node: node receiver.mjs [port]
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const key = Buffer.from(process.env.FRESHET_WEBHOOK_SECRET.replace("whsec_", ""), "base64");

function verified(headers, body) {
  const id = headers["webhook-id"], timestamp = headers["webhook-timestamp"];
  if (!id || Math.abs(Date.now() / 1000 - Number(timestamp)) > 300) return false;
  const expected = createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest();
  return (headers["webhook-signature"] ?? "").split(" ").some((entry) => {
    const given = Buffer.from(entry.replace(/^v1,/, ""), "base64");
    return entry.startsWith("v1,") && given.length === expected.length && timingSafeEqual(given, expected);
  });
}

const answers = {
  "client.connect": ({ headers }) =>
    headers.authorization === "Bearer let-me-in"
      ? { user: "alice" }
      : { disconnect: { code: 4501, reason: "who are you?" } },
  "client.subscribe": ({ user, parameters }) =>
    parameters.name === "secret" ? { error: { code: 1003, message: `${user} may not` } } : {},
  "client.publish": ({ user, data }) => ({ data: { ...data, from: user } }),
  "client.rpc": ({ method, data }) =>
    method === "double" ? { data: data * 2 } : { error: { code: 1004, message: "no such method" } },
};

createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  if (!verified(request.headers, body)) return response.writeHead(401).end();
  const { type, data } = JSON.parse(body);
  console.log(type, JSON.stringify(data.channel ?? data.user));
  response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(answers[type]?.(data) ?? {}));
}).listen(Number(process.argv[2] ?? 9000), "127.0.0.1");
