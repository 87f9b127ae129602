/** Where to play, and why: WebGPU on a real graphics card, else WebAssembly with as many threads as are allowed. */

import { EngineError } from './errors.js';

/** @typedef {import('./types.js').Device} Device */
/** @typedef {{device: Device, deviceName: string, threads: number, why: string}} Choice */

const EMULATED = /swiftshader|llvmpipe|basic render/i;
export const MOST_THREADS = 4;

/**
 * @param {Device | 'auto'} wanted
 * @param {number} threads 0: as many as are worth it
 * @param {import('./types.js').WorldSpec} spec
 * @param {string} [instead] why WebGPU is not taken this time, though it is there
 * @returns {Promise<Choice>} Rejects with `no-webgpu` where WebGPU was asked for by name and is not there.
 */
export async function chooseDevice(wanted, threads, spec, instead) {
  if (wanted === 'wasm') return wasm(threads, instead ?? 'WebAssembly was asked for');
  const { adapter, lack } = await findAdapter();
  if (!adapter) {
    if (wanted === 'webgpu') throw new EngineError('no-webgpu', `${lack}; choose WebAssembly`);
    return wasm(threads, lack);
  }
  const { vendor, architecture, description } = adapter.info;
  const deviceName = description || [vendor, architecture].filter(Boolean).join(' ') || 'a graphics card';
  const half = Object.values(spec.memories).some((memory) => memory?.dtype === 'float16');
  if (half && !adapter.features.has('shader-f16')) {
    const lacksHalf = `WebGPU has no 16-bit floats on ${deviceName}, which this world needs`;
    if (wanted === 'webgpu') throw new EngineError('no-webgpu', `${lacksHalf}; choose WebAssembly, or export it in fp32`);
    return wasm(threads, lacksHalf);
  }
  if (isEmulated(adapter)) {
    const words = `WebGPU is only emulated by the processor here (${deviceName}), far slower than WebAssembly`;
    return wanted === 'auto' ? wasm(threads, words) : { device: 'webgpu', deviceName, threads: 1, why: words };
  }
  return { device: 'webgpu', deviceName, threads: 1, why: `WebGPU on ${deviceName}` };
}

/** @returns {Promise<{adapter: GPUAdapter | null, lack: string}>} */
async function findAdapter() {
  if (!navigator.gpu) {
    const lack = self.isSecureContext
      ? 'this browser has no WebGPU (recent Chrome, Edge, Firefox and Safari have it)'
      : 'WebGPU is there only over https or on localhost';
    return { adapter: null, lack };
  }
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: 'high-performance' }).catch(() => null);
  return { adapter, lack: 'WebGPU finds no graphics card that it may use' };
}

/** @param {GPUAdapter} adapter */
function isEmulated(adapter) {
  const { info } = adapter;
  const marked = /** @type {{isFallbackAdapter?: boolean}} */ (/** @type {unknown} */ (adapter)); // its place until 2025
  return Boolean(info.isFallbackAdapter || marked.isFallbackAdapter) || EMULATED.test(`${info.architecture} ${info.description}`);
}

/**
 * @param {number} threads
 * @param {string} reason
 * @returns {Choice}
 */
function wasm(threads, reason) {
  const cores = navigator.hardwareConcurrency || 1;
  // Beyond two, half of what is counted: hyperthreads, and a phone's small cores, hold the others up.
  const wanted = threads || Math.min(MOST_THREADS, cores > 2 ? Math.ceil(cores / 2) : cores);
  const given = self.crossOriginIsolated ? wanted : 1;
  const deviceName = `WebAssembly, ${given} ${given === 1 ? 'thread' : 'threads'}`;
  const alone =
    given < wanted ? '; one thread, because the server does not isolate the page (headers COOP and COEP)' : '';
  return { device: 'wasm', deviceName, threads: given, why: `${reason}: playing by ${deviceName}${alone}` };
}
