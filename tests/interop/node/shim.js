// zerorpc 0.9.8 expects the interface of zeromq 4; zeromq 6 has it under another name.
const Module = require("module");
const load = Module._load;
Module._load = (name, ...rest) => load(name === "zeromq" ? "zeromq/v5-compat" : name, ...rest);
