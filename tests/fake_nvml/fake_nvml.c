/* A libnvidia-ml.so.1 without a GPU: the few calls that vram_agent makes, answered from a text file.
 *
 * FAKE_NVML_STATE names the file. It is read anew at every call, so a test changes the hardware by rewriting it:
 *
 *     init <code>                                            nvmlInit returns this code (9: no driver)
 *     gpu <uuid> <total> <reserved> <unlisted> <code> <name>  one GPU; `code` is returned by every call about it
 *     proc <gpu's index> <pid> <bytes, or none>              a process on it; `none` as in MIG mode
 *
 * Sizes are bytes; `unlisted` is memory in use by no listed process. Symbols, structs and codes: nvml.h of CUDA 13. */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15, VERSION_MISMATCH = 25 };
enum { MAX_GPUS = 16, MAX_PROCESSES = 64 };
#define NOT_AVAILABLE UINT64_MAX /* NVML_VALUE_NOT_AVAILABLE */
#define NO_INSTANCE UINT32_MAX   /* gpuInstanceId outside of MIG */
#define MEMORY_V2 (sizeof(memory_info) | 2u << 24)

typedef struct {
    unsigned pid;
    uint64_t bytes;
    unsigned gpu_instance, compute_instance;
} process_info; /* nvmlProcessInfo_t */

typedef struct {
    unsigned version;
    uint64_t total, reserved, free, used;
} memory_info; /* nvmlMemory_v2_t */

typedef struct {
    char uuid[96], name[96];
    uint64_t total, reserved, unlisted;
    int code;
    unsigned count;
    process_info processes[MAX_PROCESSES];
} gpu_state;

typedef struct {
    int init_code;
    unsigned count;
    gpu_state gpus[MAX_GPUS];
} node_state;

/* One thread at a time asks (the agent samples in one thread), so a static result is enough. */
static const node_state *read_state(void) {
    static node_state node;
    char line[512], size[32];
    memset(&node, 0, sizeof node);
    const char *path = getenv("FAKE_NVML_STATE");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file) {
        node.init_code = DRIVER_NOT_LOADED;
        return &node;
    }
    while (fgets(line, sizeof line, file)) {
        gpu_state *gpu = &node.gpus[node.count];
        unsigned index, pid;
        if (sscanf(line, "init %d", &node.init_code) == 1) continue;
        if (node.count < MAX_GPUS &&
            sscanf(line, "gpu %95s %" SCNu64 " %" SCNu64 " %" SCNu64 " %d %95[^\n]", gpu->uuid, &gpu->total,
                   &gpu->reserved, &gpu->unlisted, &gpu->code, gpu->name) == 6) {
            node.count++;
        } else if (sscanf(line, "proc %u %u %31s", &index, &pid, size) == 3 && index < node.count &&
                   node.gpus[index].count < MAX_PROCESSES) {
            gpu_state *owner = &node.gpus[index];
            uint64_t bytes = strcmp(size, "none") ? strtoull(size, NULL, 10) : NOT_AVAILABLE;
            owner->processes[owner->count++] = (process_info){pid, bytes, NO_INSTANCE, NO_INSTANCE};
        } else {
            fprintf(stderr, "fake_nvml: can't read this line: %s", line);
            abort();
        }
    }
    fclose(file);
    return &node;
}

/* A handle is the GPU's index plus one: NULL is never a handle. */
static int find(const void *handle, const gpu_state **gpu) {
    const node_state *node = read_state();
    uintptr_t index = (uintptr_t)handle - 1;
    if (index >= node->count) return INVALID_ARGUMENT;
    *gpu = &node->gpus[index];
    return (*gpu)->code;
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    return read_state()->init_code;
}

int nvmlShutdown(void) { return SUCCESS; }

const char *nvmlErrorString(int code) {
    switch (code) {
        case SUCCESS: return "Success";
        case DRIVER_NOT_LOADED: return "Driver Not Loaded";
        case GPU_IS_LOST: return "GPU is lost";
        default: return "Unknown Error";
    }
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    *count = read_state()->count;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    const gpu_state *gpu;
    *handle = (void *)((uintptr_t)index + 1);
    return find(*handle, &gpu);
}

int nvmlDeviceGetUUID(void *handle, char *uuid, unsigned length) {
    const gpu_state *gpu;
    int code = find(handle, &gpu);
    if (code == SUCCESS) snprintf(uuid, length, "%s", gpu->uuid);
    return code;
}

int nvmlDeviceGetName(void *handle, char *name, unsigned length) {
    const gpu_state *gpu;
    int code = find(handle, &gpu);
    if (code == SUCCESS) snprintf(name, length, "%s", gpu->name);
    return code;
}

/* `used` holds `reserved` here, as with some drivers: who computes with it gets wrong sums in the tests. */
int nvmlDeviceGetMemoryInfo_v2(void *handle, memory_info *memory) {
    const gpu_state *gpu;
    int code = find(handle, &gpu);
    if (code != SUCCESS) return code;
    if (memory->version != MEMORY_V2) return VERSION_MISMATCH;
    uint64_t used = gpu->unlisted;
    for (unsigned i = 0; i < gpu->count; i++)
        if (gpu->processes[i].bytes != NOT_AVAILABLE) used += gpu->processes[i].bytes;
    memory->total = gpu->total;
    memory->reserved = gpu->reserved;
    memory->free = gpu->total - gpu->reserved - used;
    memory->used = gpu->reserved + used;
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, process_info *infos) {
    const gpu_state *gpu;
    int code = find(handle, &gpu);
    if (code != SUCCESS) return code;
    unsigned room = *count;
    *count = gpu->count;
    if (room < gpu->count) return INSUFFICIENT_SIZE;
    if (gpu->count) memcpy(infos, gpu->processes, gpu->count * sizeof *infos);
    return SUCCESS;
}
