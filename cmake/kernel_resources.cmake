# kernel_resources: a target that lists the registers, shared memory and spills of every kernel of
# BERT_CUDA_SOURCES (in the current directory) for sm_80 and sm_90a, and of BERT_WARPGROUP_SOURCES
# for sm_90a, as ptxas tells them. It fails when a kernel spills registers to memory, except those
# that match, as "NAME ARCHITECTURE", one of:
set(BERT_MAY_SPILL
  "^general_"                               # f32 attention and odd head sizes: right, not fast
  "^mma_.*<128, "                           # attention heads of 128: of no preset
  "RowShape<256, "                          # hidden sizes beyond 1024
  # 12 bytes, outside the loops: evaluation on an A100.
  "^mma_forward_resident_kernel<64, false, 4> sm_80$")
file(GLOB headers CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cuh ${CMAKE_CURRENT_SOURCE_DIR}/*.h)
set(reports)
foreach(source IN LISTS BERT_CUDA_SOURCES BERT_WARPGROUP_SOURCES)
  if(NOT source MATCHES "\\.cu$" OR source STREQUAL warpgroup.cu)  # that one has no kernel
    continue()
  endif()
  set(architectures sm_80 sm_90a)
  if(source IN_LIST BERT_WARPGROUP_SOURCES)
    set(architectures sm_90a)
  endif()
  foreach(architecture IN LISTS architectures)
    set(report ${CMAKE_BINARY_DIR}/kernel_resources/${source}.${architecture}.txt)
    add_custom_command(OUTPUT ${report}
      COMMAND ${CMAKE_COMMAND} -DNVCC=${CMAKE_CUDA_COMPILER} -DROOT=${CMAKE_SOURCE_DIR}
              -DINPUT=${CMAKE_CURRENT_SOURCE_DIR}/${source} -DARCHITECTURE=${architecture}
              -DREPORT=${report} -P ${CMAKE_SOURCE_DIR}/cmake/kernel_resources_of_source.cmake
      DEPENDS ${source} ${headers} ${CMAKE_SOURCE_DIR}/kernels/dropout.h
              ${CMAKE_SOURCE_DIR}/runtime/philox.h
              ${CMAKE_SOURCE_DIR}/cmake/kernel_resources_of_source.cmake
      COMMENT "Resources of ${source} for ${architecture}" VERBATIM)
    list(APPEND reports ${report})
  endforeach()
endforeach()
find_program(BERT_CXXFILT NAMES cu++filt c++filt)
add_custom_target(kernel_resources
  COMMAND ${CMAKE_COMMAND} "-DREPORTS=${reports}" "-DMAY_SPILL=${BERT_MAY_SPILL}" -DCXXFILT=${BERT_CXXFILT}
          -DTABLE=${CMAKE_BINARY_DIR}/kernel_resources.md
          -P ${CMAKE_SOURCE_DIR}/cmake/kernel_resources_table.cmake
  DEPENDS ${reports} VERBATIM)
