/* A fake libcuda.so.1: what engines/driver.py calls, with the number of devices and the answer of cuInit as macros. */
#include <stddef.h>
#include <string.h>

#ifndef DEVICES
#define DEVICES 1
#endif
#ifndef INIT
#define INIT 0
#endif

int cuInit(unsigned flags) { return flags == 0 ? INIT : 1; }
int cuDriverGetVersion(int *version) { *version = 13020; return 0; }
int cuDeviceGetCount(int *count) { *count = DEVICES; return 0; }
int cuDeviceGet(int *device, int index) { *device = 40 + index; return index < DEVICES ? 0 : 101; }
int cuDeviceGetName(char *name, int size, int device) {
    strncpy(name, device == 40 ? "Fake H100" : "Fake T4", size);
    return 0;
}
int cuDeviceGetPCIBusId(char *id, int size, int device) {
    strncpy(id, device == 40 ? "0000:18:00.0" : "0000:3b:00.0", size);
    return 0;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    *bytes = device == 40 ? (size_t)80 << 30 : (size_t)15 << 30;
    return 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    int major = device == 40 ? 9 : 7, minor = device == 40 ? 0 : 5;
    *value = attribute == 75 ? major : attribute == 76 ? minor : -1;
    return 0;
}
int cuGetErrorName(int code, const char **name) {
    if (code == 100) *name = "CUDA_ERROR_NO_DEVICE";
    else if (code == 803) *name = "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH";
    else return 1;
    return 0;
}
