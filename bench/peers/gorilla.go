// Go with gorilla/websocket, for the benchmarks: gorilla PORT. What one sends, all get.
//
// As the chat among the examples of gorilla: two goroutines and a buffered channel for each client; what waits for a
// client goes out in one message.
package main

import (
	"net/http"
	"os"
	"sync"

	"github.com/gorilla/websocket"
)

var (
	lock     sync.RWMutex
	everyone = map[chan []byte]bool{}
	upgrader = websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
)

func write(socket *websocket.Conn, waiting chan []byte) {
	defer socket.Close()
	for message := range waiting {
		writer, err := socket.NextWriter(websocket.TextMessage)
		if err != nil {
			return
		}
		writer.Write(message)
		for more := len(waiting); more > 0; more-- {
			writer.Write([]byte{'\n'})
			writer.Write(<-waiting)
		}
		if writer.Close() != nil {
			return
		}
	}
}

func stay(response http.ResponseWriter, request *http.Request) {
	socket, err := upgrader.Upgrade(response, request, nil)
	if err != nil {
		return
	}
	waiting := make(chan []byte, 256)
	lock.Lock()
	everyone[waiting] = true
	lock.Unlock()
	go write(socket, waiting)
	for {
		_, message, err := socket.ReadMessage()
		if err != nil {
			break
		}
		lock.RLock()
		for each := range everyone {
			each <- message
		}
		lock.RUnlock()
	}
	lock.Lock()
	delete(everyone, waiting)
	close(waiting)
	lock.Unlock()
}

func main() {
	http.HandleFunc("/", stay)
	panic(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}
