/** What can go wrong, in one line that says how to mend it. */

/** @typedef {import('./types.js').ErrorCode} ErrorCode */

export class EngineError extends Error {
  /**
   * @param {ErrorCode} code
   * @param {string} message
   * @param {import('./types.js').Device | null} [device] where it happened, once that was chosen
   */
  constructor(code, message, device = null) {
    super(message);
    this.name = 'EngineError';
    this.code = code;
    this.device = device;
  }
}

const OUT_OF_MEMORY = /out of memory|bad_alloc|allocat|memory access out of bounds/i;

/**
 * Whatever was thrown, as an EngineError; `doing` says what was under way.
 * @param {unknown} thrown
 * @param {string} doing
 * @returns {EngineError}
 */
export function asEngineError(thrown, doing) {
  if (thrown instanceof EngineError) return thrown;
  const text = (thrown instanceof Error ? thrown.message : String(thrown)).split('\n')[0]?.trim() || 'no reason given';
  if (thrown instanceof RangeError || OUT_OF_MEMORY.test(text)) {
    return new EngineError('memory', `not enough memory for ${doing}; close other tabs, or open a smaller world (${text})`);
  }
  return new EngineError('runtime', `ONNX Runtime failed at ${doing}: ${text}; reload the page, or play on the other device`);
}
