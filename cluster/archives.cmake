# The libraries of a minimal build, out of the folder that cluster/archives made: under the names that find_package and pkg-config
# give them elsewhere, which a bare host has not.
get_filename_component(CFARM_MINIMAL "${CFARM_MINIMAL}" ABSOLUTE BASE_DIR ${CMAKE_BINARY_DIR})
find_package(OpenMP REQUIRED COMPONENTS C)
find_package(Threads REQUIRED)

# cf_archive(TARGET FILE links...): of the folder's lib/, an archive or, by its name, a library.
function(cf_archive target file)
  if(NOT EXISTS ${CFARM_MINIMAL}/lib/${file})
    message(FATAL_ERROR "CFARM_MINIMAL: there is no ${CFARM_MINIMAL}/lib/${file}; cluster/archives makes such a folder")
  endif()
  if(file MATCHES "\\.a$")
    add_library(${target} STATIC IMPORTED GLOBAL)
  else()
    add_library(${target} SHARED IMPORTED GLOBAL)
  endif()
  set_target_properties(${target} PROPERTIES IMPORTED_LOCATION ${CFARM_MINIMAL}/lib/${file} INTERFACE_LINK_LIBRARIES "${ARGN}"
                        INTERFACE_INCLUDE_DIRECTORIES "${CFARM_MINIMAL}/include;${CFARM_MINIMAL}/include/openblas-pthread")
endfunction()

cf_archive(ZLIB::ZLIB libz.a)
cf_archive(JPEG::JPEG libjpeg.a)
cf_archive(PNG::PNG libpng.a ZLIB::ZLIB m)
cf_archive(PkgConfig::YAML libyaml.a)
cf_archive(PkgConfig::JANSSON libjansson.a)
cf_archive(PkgConfig::CRYPTO libcrypto.a Threads::Threads ${CMAKE_DL_LIBS})
cf_archive(PkgConfig::WEBP libwebp.a Threads::Threads m)
cf_archive(PkgConfig::PCRE2 libpcre2-8.a)
cf_archive(PkgConfig::CMOCKA libcmocka.so.0)
cf_archive(minimal_quadmath libquadmath.so.0)
cf_archive(minimal_gfortran libgfortran.a minimal_quadmath m)
cf_archive(PkgConfig::OPENBLAS libopenblas.a minimal_gfortran Threads::Threads m)
cf_archive(PkgConfig::LAPACKE liblapacke.a PkgConfig::OPENBLAS)
cf_archive(minimal_unistring libunistring.a)
cf_archive(minimal_dnnl libdnnl.so.2)
set(UNISTRING_LIBRARY minimal_unistring)
set(UNISTRING_INCLUDE ${CFARM_MINIMAL}/include)
set(DNNL_LIBRARY minimal_dnnl)
set(DNNL_INCLUDE ${CFARM_MINIMAL}/include)
set(CFARM_ARCHIVES_LINK OFF) # merge/: there is no choice here
# What oneDNN needs itself lies beside it: only the older of the two tags leads a library's own libraries there.
add_link_options(-Wl,--disable-new-dtags -Wl,-rpath-link,${CFARM_MINIMAL}/lib)
