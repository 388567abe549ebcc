#include "kernels/cpu/tiles.h"

#if BERT_CPU_TILES
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace bert::cpu {

bool may_use_tiles() {
  static const bool allowed = [] {
    constexpr unsigned kFeatures = 7, kBf16 = 1u << 22, kTiles = 1u << 24;  // in EDX
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    if (__get_cpuid_count(kFeatures, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
    if ((edx & kBf16) == 0 || (edx & kTiles) == 0) return false;
    // The registers are large, so Linux gives them to who asks (arch_prctl, Linux 5.16).
    constexpr int kRequestPermission = 0x1023, kTileData = 18;
    return ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  }();
  return allowed;
}

}  // namespace bert::cpu
#endif
