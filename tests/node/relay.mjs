// A line to the server that can be cut, without a word.
import net from "node:net";

export async function relay(url) {
  const { port, hostname } = new URL(url);
  const lines = new Set();
  const server = net.createServer((socket) => {
    const target = net.connect(port, hostname);
    socket.pipe(target).pipe(socket);
    lines.add(socket);
    for (const end of [socket, target])
      end.on("error", () => {}).on("close", () => (socket.destroy(), target.destroy(), lines.delete(socket)));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const cut = () => lines.forEach((line) => line.destroy());
  return { port: server.address().port, cut, close: () => (server.close(), cut()) };
}
