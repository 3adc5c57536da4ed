// A stock zerorpc client on Node: `node -r ./shim.js client.js WHAT ENDPOINT OPTIONS`; says JSON lines.
//
// publish:   publishes the numbers 0 .. count-1, `width` at a time; says each answer.
// call:      calls `method` with `args`; says the result.
// consume:   joins `consumer`, acknowledges each message over a connection of its own, and says its offset, payload
//            and delivery when the ack is answered; leaves after `count`, or dies at once after `die_at`.
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

function consume() {
    const acking = new zerorpc.Client({timeout: 60, heartbeatInterval: 5000});
    let done = 0;
    acking.on("error", (error) => leaving || say({error: String(error)}));
    acking.connect(endpoint);
    client.invoke("subscribe", options.patterns, {consumer: options.consumer, start: "earliest", max_in_flight: 20},
                  (error, item, more) => {
        if (leaving) return;
        if (error) return say({ended: error.name, message: error.message});
        if (!more) return say({ended: "done"});
        if (item.control) return say(item);
        acking.invoke("ack", options.consumer, [[item.offset, item.token]], (error, count) => {
            if (leaving) return;
            say(error ? {error: error.name, message: error.message} : [item.offset, item.payload, item.delivery, count]);
            done += 1;
            if (done === options.die_at) process.kill(process.pid, "SIGKILL");
            if (done === options.count) { acking.close(); leave(); }
        });
    });
}

({publish, call, consume, subscribe})[what]();
