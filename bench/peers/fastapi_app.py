"""FastAPI as its documentation shows a chat, for the benchmarks; uvicorn serves it. What one sends, all get."""

from fastapi import FastAPI, WebSocket, WebSocketDisconnect

app = FastAPI()
everyone: list[WebSocket] = []


@app.websocket("/")
async def stay(socket: WebSocket) -> None:
    await socket.accept()
    everyone.append(socket)
    try:
        while True:
            message = await socket.receive_text()
            for each in everyone:
                await each.send_text(message)
    except WebSocketDisconnect:
        everyone.remove(socket)
