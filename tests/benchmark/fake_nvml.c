/* A fake libnvidia-ml.so.1: what benchmark/gpu.py calls. Energy grows by STEP mJ with every question. */
#include <string.h>

#ifndef STEP
#define STEP 500
#endif

typedef struct { unsigned long long total, free, used; } Memory;
static char devices[2];
static unsigned long long energy = 1000000;

int nvmlInit_v2(void) {
#ifdef BROKEN
    return 9;
#else
    return 0;
#endif
}
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = &devices[index]; return index ? 15 : 0; }
int nvmlDeviceGetHandleByPciBusId_v2(const char *id, void **device) {
    *device = &devices[1];
    return strcmp(id, "0000:3b:00.0") ? 6 : 0;
}
int nvmlDeviceGetName(void *device, char *name, unsigned size) {
    strncpy(name, device == &devices[1] ? "Fake T4" : "Fake H100", size);
    return 0;
}
int nvmlSystemGetDriverVersion(char *release, unsigned size) { strncpy(release, "580.95.05", size); return 0; }
int nvmlDeviceGetMemoryInfo(void *device, Memory *memory) {
    memory->total = 80ull << 30; memory->used = 1ull << 30; memory->free = 79ull << 30;
    return 0;
}
int nvmlDeviceGetMaxClockInfo(void *device, int type, unsigned *mhz) { *mhz = type == 1 ? 1980 : 2619; return 0; }
int nvmlDeviceGetClockInfo(void *device, int type, unsigned *mhz) { *mhz = type == 1 ? 1755 : 2619; return 0; }
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *celsius) { *celsius = 61; return sensor; }
int nvmlDeviceGetPowerUsage(void *device, unsigned *mw) { *mw = 123400; return 0; }
int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned *mw) { return 3; }
#ifdef OLD
int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *bits) { *bits = 1 | 4 | 64; return 0; }
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *mj) { return 3; }
#else
int nvmlDeviceGetCurrentClocksEventReasons(void *device, unsigned long long *bits) { *bits = 1 | 8; return 0; }
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *mj) { *mj = energy += STEP; return 0; }
#endif
