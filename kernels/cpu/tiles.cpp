#include "kernels/cpu/tiles.h"

#if BERT_CPU_TILES
#include <sys/syscall.h>
#include <unistd.h>

namespace bert::cpu {

bool may_use_tiles() {
  // The registers are large, so Linux gives them to who asks (arch_prctl, Linux 5.16).
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  static const bool allowed = ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return allowed;
}

}  // namespace bert::cpu
#endif
