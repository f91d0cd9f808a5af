// All calls of @connections, and what they raise, as JSON.
import {
  ApiGatewayManagementApiClient as Client,
  DeleteConnectionCommand as Delete,
  GetConnectionCommand as Get,
  PostToConnectionCommand as Post,
} from "@aws-sdk/client-apigatewaymanagementapi";

const [endpoint, ConnectionId, unknown] = process.argv.slice(2);
const of = (secretAccessKey) =>
  new Client({ endpoint, region: "local", maxAttempts: 1, credentials: { accessKeyId: "AKID", secretAccessKey } });
const client = of("a secret");
const name = (command, from = client) => from.send(command).then(() => "nothing", (error) => error.name);

const posted = await client.send(new Post({ ConnectionId, Data: "text" }));
await client.send(new Post({ ConnectionId, Data: Buffer.from([0, 255]) }));
const info = await client.send(new Get({ ConnectionId }));
const said = {
  posted: posted.$metadata.httpStatusCode,
  connectedAt: typeof info.ConnectedAt,
  sourceIp: info.Identity.SourceIp,
  tooLarge: await name(new Post({ ConnectionId, Data: "x".repeat(1024 * 1024 + 1) })),
  forbidden: await name(new Get({ ConnectionId }), of("wrong")),
  malformed: await name(new Get({ ConnectionId: "a b/é!'()*" })),
  deleted: (await client.send(new Delete({ ConnectionId }))).$metadata.httpStatusCode,
  gone: [
    await name(new Post({ ConnectionId: unknown, Data: "x" })),
    await name(new Get({ ConnectionId })),
    await name(new Delete({ ConnectionId })),
  ],
};
console.log(JSON.stringify(said));
