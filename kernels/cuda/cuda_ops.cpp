#include "kernels/cuda/cuda_ops.h"

namespace bert::BERT_CUDA {

std::string CudaOps::name() const {
#ifdef BERT_SIMT
  return "simt " + std::string(dtype_name(dtype_));
#else
  return "cuda " + std::string(dtype_name(dtype_));
#endif
}

}  // namespace bert::BERT_CUDA
