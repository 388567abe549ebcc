# cmake --install BUILD --prefix P: the programs, libbert with its header, and the package bert_cu,
# which find_package(bert_cu) finds under P.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(BERT_INSTALLED_PROGRAMS train finetune evaluate fill_mask embed predict export forward tokenize
    train_tokenizer prepare_corpus inspect report)
install(TARGETS ${BERT_INSTALLED_PROGRAMS} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY ${CMAKE_SOURCE_DIR}/configs DESTINATION ${CMAKE_INSTALL_DATADIR}/bert_cu)

install(TARGETS bert EXPORT bert_cu LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES ${CMAKE_SOURCE_DIR}/api/bert.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/bert)

# All that is installed, without tests and benchmarks: cmake --build BUILD --target programs
add_custom_target(programs DEPENDS ${BERT_INSTALLED_PROGRAMS} bert)

# Modules are looked for beside the program, and beside the library (runtime/module.h).
list(TRANSFORM BERT_CPU_LEVELS PREPEND bert_cpu_ OUTPUT_VARIABLE cpu_modules)
foreach(module ${cpu_modules} bert_cuda_backend bert_mpi_communicator)
  if(TARGET ${module})
    add_dependencies(programs ${module})
    install(TARGETS ${module} LIBRARY DESTINATION ${CMAKE_INSTALL_BINDIR})
    install(TARGETS ${module} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
  endif()
endforeach()

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/bert_cu)
install(EXPORT bert_cu NAMESPACE bert_cu:: DESTINATION ${package} FILE bert_cuTargets.cmake)
configure_package_config_file(${CMAKE_SOURCE_DIR}/cmake/bert_cuConfig.cmake.in
  ${CMAKE_BINARY_DIR}/bert_cuConfig.cmake INSTALL_DESTINATION ${package})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/bert_cuConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/bert_cuConfig.cmake ${CMAKE_BINARY_DIR}/bert_cuConfigVersion.cmake
        DESTINATION ${package})
