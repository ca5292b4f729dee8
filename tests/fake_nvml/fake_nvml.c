/* A libnvidia-ml.so.1 without a GPU: the few calls that vram_agent makes, answered from a text file.
 *
 * FAKE_NVML_STATE names the file. It is read again whenever another file has taken its place, so a test changes the
 * hardware by renaming a new file over it:
 *
 *     init <code>                                            nvmlInit returns this code (9: no driver)
 *     limits                                                 the driver has memory limits for cgroups (R615 and later)
 *     hidden                                                 no process is listed, as in containers without the host's PIDs
 *     gpu <uuid> <total> <reserved> <unlisted> <code> <name>  one GPU; `code` is returned by every call about it
 *     mig <gpu's index>                                      it is in MIG mode
 *     hang <gpu's index>                                     calls about it do not return while this line is there
 *     xid <gpu's index> <number>                             a critical error; each line is told once
 *     proc <gpu's index> <pid> <bytes, or none>              a process on it; `none` as in vGPU mode
 *     draws <gpu's index> <pid> <bytes>                      a process that draws, and does not compute
 *
 * Limits that are set are appended to the file <FAKE_NVML_STATE>.limits: uuid, cgroup, soft, hard.
 * Sizes are bytes; `unlisted` is memory in use by no listed process. Symbols, structs and codes: nvml.h of CUDA 13. */
#define _GNU_SOURCE /* usleep, st_mtim */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, TIMEOUT = 10 };
enum { GPU_IS_LOST = 15, VERSION_MISMATCH = 25 };
enum { MAX_GPUS = 16, MAX_PROCESSES = 512, MAX_XIDS = 16, HANG_POLL_US = 5000 };
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
    unsigned count;
    process_info processes[MAX_PROCESSES];
} process_list;

typedef struct {
    char uuid[96], name[96];
    uint64_t total, reserved, unlisted;
    int code, mig, hang;
    process_list computes, draws;
} gpu_state;

typedef struct {
    void *device;
    uint64_t type, data;
    unsigned gpu_instance, compute_instance;
} event_data; /* nvmlEventData_t */

typedef struct {
    int init_code, limits, hidden;
    unsigned count, xids;
    gpu_state gpus[MAX_GPUS];
    event_data events[MAX_XIDS];
} node_state;

static void add(process_list *list, unsigned pid, uint64_t bytes) {
    if (list->count < MAX_PROCESSES) list->processes[list->count++] = (process_info){pid, bytes, NO_INSTANCE, NO_INSTANCE};
}

/* Each thread that asks has a reading of its own. */
static const node_state *read_state(void) {
    static _Thread_local node_state node;
    static _Thread_local struct stat seen;
    char line[512], size[32];
    const char *path = getenv("FAKE_NVML_STATE");
    struct stat now;
    if (!path || stat(path, &now)) {
        node.init_code = DRIVER_NOT_LOADED;
        return &node;
    }
    if (now.st_ino == seen.st_ino && !memcmp(&now.st_mtim, &seen.st_mtim, sizeof now.st_mtim)) return &node;
    FILE *file = fopen(path, "r");
    if (!file) abort();
    memset(&node, 0, sizeof node);
    seen = now;
    while (fgets(line, sizeof line, file)) {
        gpu_state *gpu = &node.gpus[node.count];
        unsigned index, pid, xid;
        uint64_t bytes;
        if (sscanf(line, "init %d", &node.init_code) == 1) continue;
        if (!strcmp(line, "limits\n")) {
            node.limits = 1;
        } else if (!strcmp(line, "hidden\n")) {
            node.hidden = 1;
        } else if (node.count < MAX_GPUS &&
                   sscanf(line, "gpu %95s %" SCNu64 " %" SCNu64 " %" SCNu64 " %d %95[^\n]", gpu->uuid, &gpu->total,
                          &gpu->reserved, &gpu->unlisted, &gpu->code, gpu->name) == 6) {
            node.count++;
        } else if (sscanf(line, "mig %u", &index) == 1 && index < node.count) {
            node.gpus[index].mig = 1;
        } else if (sscanf(line, "hang %u", &index) == 1 && index < node.count) {
            node.gpus[index].hang = 1;
        } else if (sscanf(line, "xid %u %u", &index, &xid) == 2 && node.xids < MAX_XIDS) {
            node.events[node.xids++] = (event_data){(void *)((uintptr_t)index + 1), 8, xid, NO_INSTANCE, NO_INSTANCE};
        } else if (sscanf(line, "proc %u %u %31s", &index, &pid, size) == 3 && index < node.count) {
            add(&node.gpus[index].computes, pid, strcmp(size, "none") ? strtoull(size, NULL, 10) : NOT_AVAILABLE);
        } else if (sscanf(line, "draws %u %u %" SCNu64, &index, &pid, &bytes) == 3 && index < node.count) {
            add(&node.gpus[index].draws, pid, bytes);
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
    while (index < node->count && node->gpus[index].hang) {
        usleep(HANG_POLL_US);
        node = read_state();
    }
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
        case NOT_SUPPORTED: return "Not Supported";
        case TIMEOUT: return "Timeout";
        default: return "Unknown Error";
    }
}

int nvmlSystemGetDriverVersion(char *version, unsigned length) {
    snprintf(version, length, "999.99");
    return SUCCESS;
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
    const process_list *lists[] = {&gpu->computes, &gpu->draws};
    for (unsigned l = 0; l < 2; l++)
        for (unsigned i = 0; i < lists[l]->count; i++)
            if (lists[l]->processes[i].bytes != NOT_AVAILABLE) used += lists[l]->processes[i].bytes;
    memory->total = gpu->total;
    memory->reserved = gpu->reserved;
    memory->free = gpu->total - gpu->reserved - used;
    memory->used = gpu->reserved + used;
    return SUCCESS;
}

typedef struct {
    uint64_t total, free, used;
} memory_info_v1; /* nvmlMemory_t */

int nvmlDeviceGetMemoryInfo(void *handle, memory_info_v1 *memory) {
    memory_info whole = {.version = MEMORY_V2};
    int code = nvmlDeviceGetMemoryInfo_v2(handle, &whole);
    if (code == SUCCESS) *memory = (memory_info_v1){whole.total, whole.free, whole.total - whole.free};
    return code;
}

static int give(const process_list *list, unsigned *count, process_info *infos) {
    unsigned room = *count;
    *count = read_state()->hidden ? 0 : list->count;
    if (room < *count) return INSUFFICIENT_SIZE;
    if (*count) memcpy(infos, list->processes, *count * sizeof *infos);
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, process_info *infos) {
    const gpu_state *gpu;
    int code = find(handle, &gpu);
    return code == SUCCESS ? give(&gpu->computes, count, infos) : code;
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(void *handle, unsigned *count, process_info *infos) {
    const gpu_state *gpu;
    int code = find(handle, &gpu);
    return code == SUCCESS ? give(&gpu->draws, count, infos) : code;
}

int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
    const gpu_state *gpu;
    int code = find(handle, &gpu);
    if (code == SUCCESS) *current = *pending = (unsigned)gpu->mig;
    return code;
}

int nvmlEventSetCreate(void **set) {
    static int events;
    *set = &events;
    return SUCCESS;
}

int nvmlDeviceRegisterEvents(void *handle, uint64_t types, void *set) {
    const gpu_state *gpu;
    (void)types, (void)set;
    return find(handle, &gpu);
}

/* Told in order, once in the life of the process, whichever thread asks. */
int nvmlEventSetWait_v2(void *set, event_data *event, unsigned milliseconds) {
    static _Atomic unsigned told;
    const node_state *node = read_state();
    (void)set, (void)milliseconds;
    if (told >= node->xids) return TIMEOUT;
    *event = node->events[told++];
    return SUCCESS;
}

typedef struct {
    const char *cgroup;
    uint64_t soft, hard, used;
} memory_limits; /* nvmlGetMemoryLimits_v1_t; nvmlSetMemoryLimits_v1_t has no `used` */

int nvmlDeviceGetMemoryLimits_v1(void *handle, memory_limits *limits) {
    const gpu_state *gpu;
    int code = find(handle, &gpu);
    if (code != SUCCESS) return code;
    if (!read_state()->limits) return NOT_SUPPORTED;
    limits->soft = limits->used = 0;
    limits->hard = UINT64_MAX;
    return SUCCESS;
}

int nvmlDeviceSetMemoryLimits_v1(void *handle, const memory_limits *limits) {
    const gpu_state *gpu;
    char path[4096];
    int code = find(handle, &gpu);
    if (code != SUCCESS) return code;
    if (!read_state()->limits) return NOT_SUPPORTED;
    snprintf(path, sizeof path, "%s.limits", getenv("FAKE_NVML_STATE"));
    FILE *file = fopen(path, "a");
    if (!file) abort();
    fprintf(file, "%s %s %" PRIu64 " %" PRIu64 "\n", gpu->uuid, limits->cgroup, limits->soft, limits->hard);
    fclose(file);
    return SUCCESS;
}
