// @ts-check
// The player's socket: keys out, frames in. A frame is acknowledged when it is on the canvas, and only then
// does the next one come: a slow page never falls behind.

const HEADER = 24; // bytes: web_demo/messages.py
const AGAIN_MS = [500, 1000, 2000, 4000, 8000];

/**
 * @typedef {object} Frame
 * @property {number} number since the start picture, which is 0
 * @property {number} action that led to it; -1 for the start
 * @property {number} engine ms of the engine itself
 * @property {number} handed ms from its process to the server
 * @property {number} way ms of the last frame to the canvas and back
 * @property {Uint8Array} pixels RGB, [H * W * 3]
 */

export class Link {
  /**
   * @param {string} ticket
   * @param {(frame: Frame) => void} onFrame draw it; it is acknowledged when this returns
   * @param {(said: any) => void} onWord what the server says, and {type: 'lost'|'closed', why}
   */
  constructor(ticket, onFrame, onWord) {
    this.ticket = ticket;
    this.onFrame = onFrame;
    this.onWord = onWord;
    this.tries = 0;
    this.ended = false;
    this.refused = false;
    /** @type {any} */
    this.timer = 0;
    /** @type {WebSocket | null} */
    this.socket = null;
    /** What a new connection is told first. @type {Map<string, object>} */
    this.wishes = new Map();
    this.open();
  }

  open() {
    const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
    const socket = new WebSocket(`${scheme}//${location.host}/pocketgenie/play`);
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => {
      socket.send(JSON.stringify({ type: 'join', ticket: this.ticket }));
      for (const wish of this.wishes.values()) socket.send(JSON.stringify(wish));
    };
    socket.onmessage = ({ data }) => {
      if (typeof data === 'string') {
        const said = JSON.parse(data);
        if (said.type === 'error') this.refused = true;
        this.onWord(said);
        return;
      }
      this.tries = 0;
      const head = new DataView(data, 0, HEADER);
      const number = head.getUint32(0, true);
      this.onFrame({
        number,
        action: head.getInt32(4, true),
        engine: head.getFloat32(12, true),
        handed: head.getFloat32(16, true),
        way: head.getFloat32(20, true),
        pixels: new Uint8Array(data, HEADER),
      });
      if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type: 'shown', frame: number }));
    };
    socket.onclose = ({ code }) => {
      if (this.ended || this.socket !== socket) return;
      if (this.refused) return;
      if (code === 1008 || this.tries >= AGAIN_MS.length) {
        this.onWord({ type: 'closed', why: code === 1008 ? 'reload the page' : 'is the server still running, or are too many pages open?' });
        return;
      }
      this.onWord({ type: 'lost', why: 'connecting again' });
      this.timer = setTimeout(() => this.open(), AGAIN_MS[this.tries++]);
    };
    this.socket = socket;
  }

  /** @param {{type: 'hold', action: number | null} | {type: 'pace', fps: number | null, on: boolean} | {type: 'restart'}} message */
  send(message) {
    if (message.type !== 'restart') this.wishes.set(message.type, message);
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  close() {
    this.ended = true;
    clearTimeout(this.timer);
    this.socket?.close();
  }
}
