// A stand-in for NVIDIA's libnvidia-ml.so.1, for tests of the real pynvml: same binary interface,
// no GPU behind it. All its strings say SIMULATED.
// STAND_IN_NVML is the number of its GPUs or "nodriver". GPU 0 knows all; GPU 1 knows only its
// name; GPU 2 is cut in parts (MIG); GPU 3 is lost.
// A file that STAND_IN_NVML_STATE names changes GPU 0 while a process watches it: two numbers,
// its temperature and its memory errors, or the word "lost".
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, UNINITIALIZED = 1, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6,
       DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15 };
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } pci_t;
typedef long device_t; // From 1; parts of GPU 2 are 100 and 101.

typedef struct { unsigned gpu, memory; } utilization_t;
typedef struct { unsigned celsius, errors; int lost; } state_t;

static int count, ready;
static state_t state(void) {
    state_t found = { 40, 0, 0 };
    const char *name = getenv("STAND_IN_NVML_STATE");
    FILE *file = name ? fopen(name, "r") : NULL;
    if (!file) return found;
    found.lost = fscanf(file, "%u %u", &found.celsius, &found.errors) != 2;
    fclose(file);
    return found;
}
#define KNOWN(d) if (!ready) return UNINITIALIZED; if ((d) == 4 || ((d) == 1 && state().lost)) return GPU_IS_LOST
#define FULL(d) KNOWN(d); if ((d) == 2) return NOT_SUPPORTED

int nvmlInitWithFlags(unsigned flags) {
    const char *fleet = getenv("STAND_IN_NVML");
    if (!fleet || !strcmp(fleet, "nodriver")) return DRIVER_NOT_LOADED;
    count = atoi(fleet); ready = 1; return OK;
}
int nvmlShutdown(void) { ready = 0; return OK; }
const char *nvmlErrorString(int code) { return "SIMULATED error"; }
int nvmlSystemGetDriverVersion(char *v, unsigned n) { snprintf(v, n, "SIMULATED-1"); return OK; }
int nvmlSystemGetCudaDriverVersion_v2(int *v) { *v = 12080; return OK; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = count; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, device_t *d) { *d = i + 1; return OK; }
int nvmlDeviceGetUUID(device_t d, char *v, unsigned n) {
    KNOWN(d); snprintf(v, n, d >= 100 ? "MIG-SIMULATED-%ld" : "GPU-SIMULATED-%ld", d); return OK;
}
int nvmlDeviceGetName(device_t d, char *v, unsigned n) {
    KNOWN(d); snprintf(v, n, d >= 100 ? "SIMULATED GPU 3 MIG 1g.%ldgb" : "SIMULATED GPU %ld", d >= 100 ? 10 : d);
    return OK;
}
int nvmlDeviceGetMemoryInfo(device_t d, memory_t *m) {
    FULL(d); m->total = (d >= 100 ? 10ull : 80ull) << 30; m->free = 1; m->used = 2ull << 30; return OK;
}
int nvmlDeviceGetCudaComputeCapability(device_t d, int *a, int *b) { FULL(d); *a = 9; *b = 0; return OK; }
int nvmlDeviceGetPciInfo_v3(device_t d, pci_t *p) {
    FULL(d); memset(p, 0, sizeof *p); snprintf(p->bus_id, 32, "00000000:%02lX:00.0", d); return OK;
}
int nvmlDeviceGetMinorNumber(device_t d, unsigned *v) { FULL(d); *v = d - 1; return OK; }
int nvmlDeviceGetNumGpuCores(device_t d, unsigned *v) { FULL(d); *v = 16896; return OK; }
int nvmlDeviceGetEnforcedPowerLimit(device_t d, unsigned *v) { FULL(d); *v = 700000; return OK; }
int nvmlDeviceGetMaxClockInfo(device_t d, int kind, unsigned *v) {
    FULL(d); *v = kind == 2 ? 2619 : 1980; return OK;
}
// nvmlDeviceGetMemoryBusWidth is missing on purpose: an old driver's library lacks functions.
int nvmlDeviceGetEccMode(device_t d, int *now, int *later) { FULL(d); *now = *later = 1; return OK; }
int nvmlDeviceGetMigMode(device_t d, unsigned *now, unsigned *later) {
    FULL(d); *now = *later = d == 3; return OK;
}
int nvmlDeviceGetMaxMigDeviceCount(device_t d, unsigned *n) { FULL(d); *n = 7; return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(device_t d, unsigned i, device_t *part) {
    FULL(d); if (i > 1) return NOT_FOUND; *part = 100 + i; return OK;
}
int nvmlDeviceGetGpuInstanceId(device_t d, unsigned *v) { FULL(d); if (d < 100) return INVALID; *v = d - 99 + 6; return OK; }
int nvmlDeviceGetComputeInstanceId(device_t d, unsigned *v) { FULL(d); if (d < 100) return INVALID; *v = 0; return OK; }
int nvmlDeviceGetUtilizationRates(device_t d, utilization_t *u) { FULL(d); u->gpu = 87; u->memory = 5; return OK; }
int nvmlDeviceGetTemperature(device_t d, int kind, unsigned *v) { FULL(d); *v = state().celsius; return OK; }
int nvmlDeviceGetTemperatureThreshold(device_t d, int kind, unsigned *v) {
    FULL(d); if (kind != 1) return NOT_SUPPORTED; *v = 89; return OK;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(device_t d, unsigned long long *v) {
    FULL(d); *v = state().celsius > 90 ? 0x44 : 0x4; return OK;
}
int nvmlDeviceGetPowerUsage(device_t d, unsigned *v) { FULL(d); *v = 312500; return OK; }
int nvmlDeviceGetTotalEccErrors(device_t d, int error, int counter, unsigned long long *v) {
    FULL(d); if (error != 1 || counter != 0) return NOT_SUPPORTED; *v = state().errors; return OK;
}
