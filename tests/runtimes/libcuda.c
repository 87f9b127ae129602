/* A stand-in for NVIDIA's driver library, for machines without one: device memory is host memory, copies are
   done at once. It is as strict as the driver about what pocketgenie must get right: a current context in the
   calling thread, addresses it gave out, everything freed at the end. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { INVALID = 1, OUT_OF_MEMORY = 2, NO_CONTEXT = 201, LEAK = 719, NOT_FOUND = 500 };
enum { BLOCKS = 4096 };
static __thread void *current;
static struct { uintptr_t start; size_t size; int pinned; } blocks[BLOCKS];
static int held, streams, capturing, launches;

static long setting(const char *name, long otherwise) {
  const char *text = getenv(name);
  return text ? atol(text) : otherwise;
}
static int take(uintptr_t *out, size_t size, int pinned) {
  if (!current) return NO_CONTEXT;
  if (!size) return INVALID;
  if (!pinned && (long)size > setting("CARD_FREE", 1L << 40)) return OUT_OF_MEMORY;
  for (int i = 0; i < BLOCKS; i++)
    if (!blocks[i].start) {
      blocks[i].start = *out = (uintptr_t)aligned_alloc(256, (size + 255) / 256 * 256);
      blocks[i].size = size, blocks[i].pinned = pinned, held++;
      memset((void *)*out, 0xAB, size); /* the driver clears nothing */
      return 0;
    }
  return INVALID;
}
static int give(uintptr_t start, int pinned) {
  if (!current) return NO_CONTEXT;
  for (int i = 0; i < BLOCKS; i++)
    if (blocks[i].start == start && blocks[i].pinned == pinned) {
      free((void *)start), blocks[i].start = 0, held--;
      return 0;
    }
  return INVALID;
}
static int inside(uintptr_t at, size_t size, int pinned) {
  for (int i = 0; i < BLOCKS; i++)
    if (blocks[i].pinned == pinned && blocks[i].start <= at && at + size <= blocks[i].start + blocks[i].size)
      return 1;
  return 0;
}
static int move(uintptr_t to, int to_pinned, uintptr_t from, int from_pinned, size_t size) {
  if (!current) return NO_CONTEXT;
  if (!inside(to, size, to_pinned) || !inside(from, size, from_pinned)) return INVALID;
  memmove((void *)to, (void *)from, size);
  return 0;
}

int cuInit(unsigned flags) { return setting("CARD_INIT", 0); }
int cuDriverGetVersion(int *version) { return *version = setting("CARD_CUDA", 13000), 0; }
int cuDeviceGet(int *device, int ordinal) { return *device = 7, ordinal ? 101 : 0; }
int cuDeviceGetName(char *name, int size, int device) { return strncpy(name, "Card of Straw", size), 0; }
int cuDeviceGetAttribute(int *value, int which, int device) {
  return *value = which == 75 ? 8 : which == 76 ? 9 : -1, 0;
}
int cuDevicePrimaryCtxRetain(void **context, int device) { return *context = &held, device == 7 ? 0 : 101; }
int cuDevicePrimaryCtxRelease_v2(int device) { return held || streams ? LEAK : 0; }
int cuCtxSetCurrent(void *context) { return current = context, 0; }
int cuMemGetInfo_v2(size_t *free, size_t *total) {
  *free = *total = setting("CARD_FREE", 1L << 40);
  return current ? 0 : NO_CONTEXT;
}
int cuMemAlloc_v2(uintptr_t *out, size_t size) { return take(out, size, 0); }
int cuMemFree_v2(uintptr_t start) { return give(start, 0); }
int cuMemHostAlloc(uintptr_t *out, size_t size, unsigned flags) { return take(out, size, 1); }
int cuMemFreeHost(uintptr_t start) { return give(start, 1); }
int cuMemsetD8Async(uintptr_t to, unsigned char value, size_t size, void *stream) {
  if (!inside(to, size, 0)) return INVALID;
  return memset((void *)to, value, size), current ? 0 : NO_CONTEXT;
}
int cuMemcpyHtoDAsync_v2(uintptr_t to, uintptr_t from, size_t n, void *s) { return move(to, 0, from, 1, n); }
int cuMemcpyDtoHAsync_v2(uintptr_t to, uintptr_t from, size_t n, void *s) { return move(to, 1, from, 0, n); }
int cuMemcpyDtoDAsync_v2(uintptr_t to, uintptr_t from, size_t n, void *s) { return move(to, 0, from, 0, n); }
int cuStreamCreate(void **stream, unsigned flags) { return *stream = &streams, streams++, flags == 1 ? 0 : INVALID; }
int cuStreamDestroy_v2(void *stream) { return streams--, 0; }
int cuStreamSynchronize(void *stream) { return stream == &streams && current ? 0 : INVALID; }
int cuStreamBeginCapture_v2(void *stream, int mode) { return capturing++ || mode != 1 ? INVALID : 0; }
int cuStreamEndCapture(void *stream, void **graph) {
  return *graph = &capturing, capturing-- != 1 ? INVALID : setting("CARD_CAPTURE", 0);
}
int cuGraphInstantiateWithFlags(void **ready, void *graph, unsigned long long flags) {
  return *ready = &launches, graph == &capturing && !flags ? 0 : INVALID;
}
int cuGraphDestroy(void *graph) { return graph == &capturing ? 0 : INVALID; }
int cuGraphLaunch(void *ready, void *stream) { return launches++, ready == &launches ? 0 : INVALID; }
int card_launches(void) { return launches; }

int cuGetProcAddress_v2(const char *name, void **found, int version, uint64_t flags, int *status) {
  static const char *suffixes[] = {"_v2", "", "WithFlags"};
  for (int i = 0; i < 3; i++) {
    char full[128] = {0};
    strncat(full, name, 100), strcat(full, suffixes[i]);
    if ((*found = dlsym(RTLD_DEFAULT, full)) != NULL) return 0;
    void *self = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    if (self && (*found = dlsym(self, full)) != NULL) return 0;
  }
  return NOT_FOUND;
}
