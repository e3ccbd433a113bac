# SPDX-License-Identifier: Apache-2.0
#
# Run by cpack between installing and packing: compresses manual pages, puts licence and
# changelog where this kind of package has them, and sets times.
set(root ${CPACK_TEMPORARY_INSTALL_DIRECTORY})
set(source ${CPACK_STAGER_SOURCE})

function(compress file)
  # -n: neither name nor time of the file get into the result.
  execute_process(COMMAND gzip -9nf ${file} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

file(GLOB pages ${root}/usr/share/man/man*/*.[1-8])
foreach(page ${pages})
  compress(${page})
endforeach()

if(CPACK_GENERATOR STREQUAL "DEB")
  set(doc ${root}/usr/share/doc/stager)
  file(COPY ${source}/packaging/deb/copyright ${source}/README.md DESTINATION ${doc})
  configure_file(${source}/packaging/deb/changelog ${doc}/changelog.Debian COPYONLY)
  compress(${doc}/changelog.Debian)
  configure_file(${source}/packaging/deb/lintian-overrides
    ${root}/usr/share/lintian/overrides/stager COPYONLY)
elseif(CPACK_GENERATOR STREQUAL "RPM")
  file(COPY ${source}/LICENSE DESTINATION ${root}/usr/share/licenses/stager)
  file(COPY ${source}/README.md DESTINATION ${root}/usr/share/doc/stager)
endif()

# The same source makes the same package, whenever and with whatever umask it was checked out.
execute_process(COMMAND chmod -R u=rwX,go=rX ${root} COMMAND_ERROR_IS_FATAL ANY)
if(DEFINED ENV{SOURCE_DATE_EPOCH})
  execute_process(COMMAND find ${root} -exec touch -h -d @$ENV{SOURCE_DATE_EPOCH} {} +
    COMMAND_ERROR_IS_FATAL ANY)
endif()
