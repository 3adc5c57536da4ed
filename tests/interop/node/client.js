// A stock zerorpc client on Node: `node -r ./shim.js client.js WHAT ENDPOINT OPTIONS`; says JSON lines.
//
// publish:   publishes the numbers 0 .. count-1, `width` at a time; says each answer.
// call:      calls `method` with `args`; says the result.
// subscribe: says the offset and payload of every item, and how the stream ended; at message number
//            `block_at` it blocks the whole process for `block_s` seconds.
const zerorpc = require("zerorpc");
const [what, endpoint, text] = process.argv.slice(2);
const options = JSON.parse(text);
const client = new zerorpc.Client({timeout: 60, heartbeatInterval: (options.heartbeat || 5) * 1000});
const say = (value) => process.stdout.write(JSON.stringify(value) + "\n");
let leaving = false;     // closing its own socket can be an error to zeromq 6
const leave = () => { leaving = true; client.close(); setTimeout(() => process.exit(0), 50); };

client.on("error", (error) => leaving || say({error: String(error)}));
client.connect(endpoint);

function publish() {
    let next = 0, answered = 0;
    const one = () => {
        const number = next++;
        client.invoke("publish", options.topic, {n: number, text: "größe"}, {key: "k" + number % 3}, (error, offset) => {
            say(error ? {error: error.name, message: error.message} : [offset, number]);
            if (++answered === options.count) leave();
            else if (next < options.count) one();
        });
    };
    for (let k = 0; k < Math.min(options.width, options.count); k++) one();
}

function call() {
    client.invoke(options.method, ...options.args, (error, result) => {
        say(error ? {error: error.name, message: error.message} : {result});
        leave();
    });
}

function block(seconds) {
    const ends = Date.now() + seconds * 1000;
    while (Date.now() < ends);
}

function subscribe() {
    let messages = 0, done = false;
    client.invoke("subscribe", options.patterns, options.subscribe, (error, item, more) => {
        if (done) return;
        if (error) { say({ended: error.name, message: error.message}); done = true; return leave(); }
        if (!more) { say({ended: "done"}); done = true; return leave(); }
        if (item.control) return say(item);
        say([item.offset, options.short ? null : item.payload]);
        if (++messages === options.block_at) block(options.block_s);
    });
}

({publish, call, subscribe})[what]();
