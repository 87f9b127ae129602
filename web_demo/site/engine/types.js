/**
 * The engine's interface and its data, as JSDoc types: nothing here runs.
 *
 * Frames are RGB, uint8 [H*W*3], row by row; where a picture is given, RGBA [H*W*4] is taken as well (alpha
 * is ignored). Tokens are int32 [S], actions 0 .. A-1 (A is "none": a history's first frame), milliseconds are
 * floats. What the Python package calls each thing is called so here.
 */

/** @typedef {'webgpu' | 'wasm'} Device */
/** @typedef {'uint8' | 'int32' | 'float32' | 'float16'} DType */
/** @typedef {'dynamics' | 'encoder' | 'decoder'} MemoryName */
/** @typedef {'encode' | 'observe' | 'decode' | 'play' | 'step' | 'logits' | 'infer_action' | 'prefill'} GraphName */

/**
 * @typedef {object} TensorSpec
 * @property {string} name
 * @property {DType} dtype
 * @property {number[]} shape
 * @property {string} [meaning]
 */

/**
 * A ring of the last `slots` frames' entries.
 * @typedef {object} MemorySpec
 * @property {number} slots
 * @property {number[]} entry shape of one frame's entry
 * @property {'float32' | 'float16'} dtype
 * @property {string} prefix before the tensors' names: "", "encoder_" or "decoder_"
 */

/**
 * A world as the manifest of a bundle tells it (genie/spec.py).
 * @typedef {object} WorldSpec
 * @property {string} name
 * @property {number} height
 * @property {number} width
 * @property {[number, number]} grid token rows and columns; S = rows * columns
 * @property {number} codebook
 * @property {number} actions
 * @property {number} steps refinement steps per frame, N
 * @property {string} order
 * @property {number} temperature
 * @property {number} fps of the video the world was learned from
 * @property {number} action_frames how many frames `inferAction` looks at; 0: it cannot
 * @property {'pixels' | 'tokens'} [frames] tokens: no pictures; each token is drawn as a square of one colour
 * @property {'relative' | 'absolute'} window
 * @property {number} [keeps] frames that stay when an absolute window moves; 0 for all
 * @property {boolean} [prefill] whether the graph `prefill` observes those in one call
 * @property {{left?: number, right?: number, up?: number, down?: number}} arrows
 * @property {Partial<Record<MemoryName, MemorySpec>>} memories `dynamics` is always there
 */

/**
 * @typedef {object} GraphEntry
 * @property {string} file
 * @property {string[]} data files outside `file` that hold its weights
 * @property {TensorSpec[]} inputs
 * @property {TensorSpec[]} outputs
 */

/** @typedef {Record<string, {sha256: string, size: number}>} Files what a file must be, to the byte, by path */

/**
 * site/world/world.json. Paths are relative to its own folder.
 * @typedef {object} WorldFile
 * @property {1} schema_version
 * @property {string} name
 * @property {string} world the checkpoint's hash: a link that replays a run names it
 * @property {WorldSpec} spec
 * @property {string} precision
 * @property {Partial<Record<GraphName, GraphEntry>>} graphs
 * @property {Partial<Record<GraphName, GraphEntry>>} [webgpu] the same graphs as WebGPU runs them, in place of those
 *   of `graphs` by the same name: float32 products of the same weights, no 64-bit integers
 * @property {string[]} gallery pictures to start from, PNG
 * @property {Files} files every file named above
 * @property {Partial<Record<Device, Files>>} [runtime] the files of vendor/ort/<device>/ by their names there; the
 *   .wasm counts in the progress then, is checked and kept
 * @property {Record<string, Record<string, string>>} [session_options] configuration entries of ONNX Runtime's
 *   sessions: {optimization: {disable_specified_optimizers: 'MatMulAddFusion'}}
 * @property {{row: number, table_offsets: number, first: number}} noise rows of the Gumbel table: draws lie in
 *   [first, first + table_offsets); 0 is no noise
 * @property {string} licence
 * @property {string} [card] the world's card, in Markdown
 */

/**
 * How far loading is. `total` is known before the first byte; `loaded` reaches it. Where WebGPU does not work after
 * all, loading begins again for WebAssembly, with another total.
 * @typedef {object} Progress
 * @property {'files' | 'runtime' | 'graphs' | 'ready'} stage files: fetching and checking; runtime: starting
 *   ONNX Runtime; graphs: preparing `graph`; ready: done
 * @property {number} loaded bytes that are here and checked, or are just coming in
 * @property {number} total bytes that are needed before playing
 * @property {number} cached bytes of `loaded` that came from this browser's cache
 * @property {string} [file] the file that is coming in
 * @property {GraphName} [graph] the graph that is being prepared
 */

/**
 * @typedef {object} LoadOptions
 * @property {string | URL} [world] address of world.json, relative to the page; 'world/world.json'
 * @property {Device | 'auto'} [device] 'auto': WebGPU where there is a real adapter, else wasm. 'webgpu' takes a
 *   software adapter too, and fails with `no-webgpu` without any
 * @property {number} [threads] of wasm; 0: as many as are worth it, 4 at most; always 1 where the page is not
 *   isolated
 * @property {(progress: Progress) => void} [onProgress]
 * @property {AbortSignal} [signal] cancels: `load` rejects with code `cancelled`
 */

/**
 * What was loaded.
 * @typedef {object} Loaded
 * @property {WorldSpec} spec
 * @property {WorldFile} world
 * @property {string} base the address that the paths in `world` are relative to
 * @property {Device} device
 * @property {string} deviceName for people: "NVIDIA Ada Lovelace" or "WebAssembly, 4 threads"
 * @property {number} threads 1 on WebGPU
 * @property {string} why one line: why this device, and how to get a faster one
 * @property {{total: number, cached: number}} bytes that were needed, and those of them from the cache
 */

/**
 * @typedef {object} Start
 * @property {Int32Array} tokens
 * @property {Uint8Array} frame the picture as the world's tokenizer sees it
 */

/**
 * Milliseconds of one frame by stage: drawing its noise; the graph; where the window is absolute, looking
 * again at the frames it keeps; copying into memory and out of it; all of it.
 * @typedef {object} FrameTime
 * @property {number} noise
 * @property {number} step
 * @property {number} [observe]
 * @property {number} copy
 * @property {number} total
 */

/**
 * @typedef {object} Played
 * @property {Int32Array} tokens
 * @property {Uint8Array} frame
 * @property {FrameTime} ms
 */

/**
 * @typedef {object} Inferred
 * @property {number} action
 * @property {Float32Array} distances squared distance to each action's code
 */

/**
 * Codes of an `EngineError`, for a page that wants to say more than its message does.
 * missing-file: not on the server. altered-file: bytes do not match world.json. network: no answer.
 * schema: a world.json that this page cannot read. no-webgpu: asked for and not there. memory: out of it.
 * cancelled: by the signal. not-loaded: `load` has not finished. not-started: nothing to play from.
 * argument: a wrong size or a number out of range. no-graph: the world has no such graph.
 * runtime: ONNX Runtime failed. crashed: the worker ended.
 * @typedef {'missing-file' | 'altered-file' | 'network' | 'schema' | 'no-webgpu' | 'memory' | 'cancelled'
 *   | 'not-loaded' | 'not-started' | 'argument' | 'no-graph' | 'runtime' | 'crashed'} ErrorCode
 */

/**
 * A world being played, in a worker of its own. Calls are done one after the other, in the order they were made.
 * Every promise rejects with an `EngineError` {code, message}: one line that says what is wrong and how to mend
 * it. `class Engine` of engine.js is this.
 * @typedef {object} EngineApi
 * @property {(options?: LoadOptions) => Promise<Loaded>} load once per engine (again after it failed)
 * @property {(picture: Uint8Array | Uint8ClampedArray) => Promise<Start>} start forget the past, begin at a
 *   picture; the frame count of the noise is 0 again
 * @property {(action: number, noise?: Int32Array) => Promise<Played>} play draw the next frame. Without `noise`
 *   [N*S] it is drawn from the seed and the frame's number, as runtimes/player.py does
 * @property {(seed: number) => Promise<void>} seed of the noise, an integer 0 .. 2^53-1; 0 at first
 * @property {(on: boolean) => Promise<void>} temperatureZero always play the likeliest token
 * @property {() => Promise<void>} reset forget the history
 * @property {(picture: Uint8Array | Uint8ClampedArray) => Promise<Int32Array>} encode tokens of a real frame
 * @property {(tokens: Int32Array, action: number) => Promise<void>} observe take a given frame into the history;
 *   `action` led to it, A for the first
 * @property {(tokens: Int32Array) => Promise<Uint8Array>} decode pixels of tokens, as the frame that follows
 * @property {(tokens: Int32Array, action: number) => Promise<Float32Array>} logits one refinement pass, [S*V];
 *   V where a token is masked. Fetches its graph at first use
 * @property {(frames: Uint8Array) => Promise<Inferred>} inferAction RGB [action_frames*H*W*3]. Fetches its graph
 *   at first use
 * @property {(frames: number, seconds: number, warmUp: number) => Promise<Float64Array>} turn play `frames`
 *   frames, or as many as begin within `seconds`, after `warmUp` that do not count, going through the actions;
 *   milliseconds of each, measured in the worker. Needs a `start`
 * @property {() => void} close end the worker; calls under way reject with `cancelled`
 */

export {};
