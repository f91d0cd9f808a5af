import{C as b}from"./centrifuge.js";import{e as n,m as a,h as y}from"./shared.js";/* empty css      */const s="news",w=50,r=new URL("./",location.href.replace(/[?#].*/,"")).href,u=r.replace(/^http/,"ws"),f=[{name:"Browser",language:"typescript",code:`// No library: a channel is a URL.
const news = new EventSource("${r}channels/${s}");

news.onmessage = ({ data }) => console.log(JSON.parse(data));`,next:"It comes back by itself after a lost connection, with what it missed."},{name:"centrifuge",language:"typescript",code:`import { Centrifuge } from "centrifuge"; // npm install centrifuge

const client = new Centrifuge("${u}connection/websocket");
const news = client.newSubscription("${s}");

news.on("publication", ({ data }) => console.log(data));
news.subscribe();
client.connect();`,next:"One connection, many channels; recovery, presence and RPC. There are SDKs for Swift, Kotlin, Dart, Go and C#, too."},{name:"curl",language:"shell",code:`# Subscribe:
curl -N -H 'Accept: text/event-stream' ${r}channels/${s}

# Publish:
curl -d '{"channel": "${s}", "data": "Hello from curl"}' \\
  -H 'Content-Type: application/json' ${r}api/publish`,next:"Publish from any language with one POST."},{name:"Python",language:"python",code:`from fastapi import FastAPI
from freshet import Freshet

live = Freshet(dev=True)
api = FastAPI(lifespan=live.lifespan)
api.mount("/live", live)

@api.post("/hello")
async def hello() -> None:
    await live.publish("${s}", "Hello from Python")`,next:"Freshet runs inside your application: no second server."}],l=n("messages"),g=n("said"),p=n("snippet").querySelector("code");function m(e){e.language==="shell"?p.replaceChildren(e.code):p.replaceChildren(y(e.code,e.language)),n("next").textContent=e.next;for(const t of n("kinds").children){const o=t.textContent===e.name;t.setAttribute("aria-selected",String(o)),t.tabIndex=o?0:-1}}for(const e of f){const t=a("button","",e.name);t.type="button",t.setAttribute("role","tab"),t.setAttribute("aria-controls","snippet"),t.addEventListener("click",()=>m(e)),n("kinds").append(t)}n("kinds").addEventListener("keydown",e=>{const t={ArrowRight:1,ArrowLeft:-1}[e.key],o=[...n("kinds").children],i=t&&o[(o.indexOf(e.target)+t+o.length)%o.length];i&&(i.click(),i.focus())});m(f[0]);n("copy").addEventListener("click",()=>{navigator.clipboard.writeText(p.textContent??"").then(()=>{n("copy").textContent="Copied",setTimeout(()=>n("copy").textContent="Copy",1500)})});function d(e,t){n("state").dataset.state=e,n("state").textContent=t}const c=new b(`${u}connection/websocket`,{maxReconnectDelay:3e3});c.on("connected",()=>d("live","Live"));c.on("connecting",({code:e,reason:t})=>e&&d("lost",`Connection lost (${t}). Trying again…`));c.on("disconnected",({reason:e})=>d("lost",`Disconnected: ${e}`));const h=c.newSubscription(s,{since:{offset:0,epoch:""}});h.on("error",({error:e})=>g.textContent=`${s}: ${e.message}`);h.on("publication",({data:e,offset:t})=>{const o=typeof e=="string"?e:JSON.stringify(e),i=a("li");for(i.append(a("span","offset",t?`#${t}`:""),a("span","",o)),l.prepend(i);l.children.length>w;)l.lastElementChild?.remove()});h.subscribe();c.connect();n("publish").addEventListener("submit",e=>{e.preventDefault();const t=n("text");t.value&&v(t.value).then(o=>{g.textContent=o,o||t.select()})});async function v(e){try{const t=await fetch("api/publish",{method:"POST",headers:{"Content-Type":"application/json"},body:JSON.stringify({channel:s,data:e})}),{error:o}=await t.json();return o?.message??""}catch{return"The server does not answer."}}
