# BERT_WITH_CUDA: the CUDA backend, a module of its own beside the programs (kernels/cuda). It is on
# where nvcc is found; with it off, nothing of the CUDA toolkit is needed.
find_program(BERT_NVCC nvcc HINTS ENV CUDACXX PATHS /usr/local/cuda/bin)
set(cuda_default OFF)
if(BERT_NVCC AND NOT BERT_SANITIZE)
  set(cuda_default ON)
endif()
option(BERT_WITH_CUDA "Build the CUDA backend (needs nvcc)" ${cuda_default})
if(NOT BERT_WITH_CUDA)
  message(STATUS "Without the CUDA backend")
  return()
endif()

if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX} AND BERT_NVCC)
  set(CMAKE_CUDA_COMPILER ${BERT_NVCC})
endif()
# A100 and H100/H200 as machine code, anything later through PTX.
set(CMAKE_CUDA_ARCHITECTURES 80-real 90a-real 90-virtual CACHE STRING "GPUs to compile for")
set(CMAKE_CUDA_STANDARD 17)
enable_language(CUDA)
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake before 3.25.2 does not know nvcc's C++20
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
  list(APPEND CMAKE_CUDA_COMPILE_FEATURES cuda_std_20)
endif()
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_EXTENSIONS OFF)
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)

find_package(CUDAToolkit REQUIRED)
# Only the header: the library is opened when several GPUs are used.
find_path(BERT_NCCL_INCLUDE nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
if(NOT BERT_NCCL_INCLUDE)
  message(STATUS "Without NCCL: one GPU only (nccl.h is missing)")
endif()
