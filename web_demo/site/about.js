/** What the page tells about its world: a few facts, and the card that came with it. */

import { at, write } from './page.js';
import { read } from './ui/card.js';
import { make } from './ui/dom.js';

/** @param {import('./engine/types.js').WorldFile} world */
export function mountAbout(world) {
  const { spec } = world;
  const facts = {
    World: spec.name,
    Frames: `${spec.width} × ${spec.height} pixels, ${spec.grid[0] * spec.grid[1]} tokens of ${spec.codebook} words`,
    'A frame takes': `${spec.steps} ${spec.steps === 1 ? 'step' : 'steps'}, looking back ${spec.memories.dynamics?.slots ?? 0} frames`,
    Precision: world.precision,
    Licence: world.licence,
    Checkpoint: world.world.slice(0, 16),
  };
  document.title = `${spec.name} · pocketgenie`;
  write('world', `${spec.name} · ${spec.width}×${spec.height} at ${spec.fps} fps · ${world.precision}`);
  at('facts').replaceChildren(...Object.entries(facts).flatMap(([name, value]) => [make('dt', {}, name), make('dd', {}, value)]));
  at('card').hidden = !world.card;
  at('card-text').replaceChildren(...read(world.card ?? ''));
}
