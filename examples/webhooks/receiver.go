// A receiver of Freshet's webhooks in Go, with nothing but its standard library: go run receiver.go [port]
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

type object = map[string]any

func verified(header http.Header, body, key []byte) bool {
	id, timestamp := header.Get("webhook-id"), header.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if id == "" || err != nil || math.Abs(float64(time.Now().Unix()-seconds)) > 300 {
		return false
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.", id, timestamp)
	mac.Write(body)
	expected := mac.Sum(nil)
	for _, entry := range strings.Fields(header.Get("webhook-signature")) {
		given, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(entry, "v1,"))
		if strings.HasPrefix(entry, "v1,") && err == nil && hmac.Equal(given, expected) {
			return true
		}
	}
	return false
}

func answer(kind string, data object) object {
	switch kind {
	case "client.connect":
		if headers, _ := data["headers"].(object); headers["authorization"] == "Bearer let-me-in" {
			return object{"user": "alice"}
		}
		return object{"disconnect": object{"code": 4501, "reason": "who are you?"}}
	case "client.subscribe":
		if parameters, _ := data["parameters"].(object); parameters["name"] == "secret" {
			return object{"error": object{"code": 1003, "message": fmt.Sprint(data["user"], " may not")}}
		}
	case "client.publish":
		published, _ := data["data"].(object)
		published["from"] = data["user"]
		return object{"data": published}
	case "client.rpc":
		if number, ok := data["data"].(float64); ok && data["method"] == "double" {
			return object{"data": number * 2}
		}
		return object{"error": object{"code": 1004, "message": "no such method"}}
	}
	return object{}
}

func main() {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(os.Getenv("FRESHET_WEBHOOK_SECRET"), "whsec_"))
	if err != nil || len(key) == 0 {
		log.Fatal("set FRESHET_WEBHOOK_SECRET")
	}
	port := "9000"
	if len(os.Args) > 1 {
		port = os.Args[1]
	}
	http.HandleFunc("/", func(response http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(response, request.Body, 1<<20))
		var webhook struct {
			Type string
			Data object
		}
		if err != nil || !verified(request.Header, body, key) || json.Unmarshal(body, &webhook) != nil {
			response.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Println(webhook.Type, webhook.Data["channel"], webhook.Data["user"])
		response.Header().Set("content-type", "application/json")
		json.NewEncoder(response).Encode(answer(webhook.Type, webhook.Data))
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+port, nil))
}
