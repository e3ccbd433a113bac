# SPDX-License-Identifier: Apache-2.0
#
# .deb and .rpm from the same rules.  packaging/make-packages calls this as it must be
# called; a build for another prefix has no packages.
if(NOT CMAKE_INSTALL_PREFIX STREQUAL "/usr" OR NOT CMAKE_INSTALL_SYSCONFDIR STREQUAL "/etc")
  return()
endif()

set(STAGER_MAINTAINER "The stager maintainers <stager-maintainers@users.noreply.github.com>"
  CACHE STRING "who answers for the packages: name <address>")
set(STAGER_RELEASE 1 CACHE STRING "release of the packages of this version")

# What an administrator edits and an upgrade must not overwrite.
list(TRANSFORM config_files PREPEND /etc/stager/)

# The first entry of either changelog is about this version.
foreach(changelog deb/changelog rpm/changelog)
  file(STRINGS ${changelog} first LIMIT_COUNT 1)
  if(NOT first MATCHES "[ (]${PROJECT_VERSION}-${STAGER_RELEASE}\\)?")
    message(FATAL_ERROR "packaging/${changelog} says nothing about version"
      " ${PROJECT_VERSION}-${STAGER_RELEASE}: add an entry, or set STAGER_RELEASE")
  endif()
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${changelog})
endforeach()

set(CPACK_PACKAGE_NAME stager)
set(CPACK_PACKAGE_CONTACT "${STAGER_MAINTAINER}")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "move a running Linux server to another machine")
set(description
"stager copies the file tree of a running server to another machine over SSH,
in phases: a full sync while the server works, incremental syncs that send
only what changed since, and a cutover, for which services are stopped for as
long as the last changes take. Contents, holes, owners, modes, times, hard
links, devices, extended attributes, ACLs and file capabilities arrive as they
are. Nothing needs to be installed on the target but an SSH server.")
set(CPACK_STRIP_FILES ON)
# Files below /etc have absolute destinations.
set(CPACK_SET_DESTDIR ON)
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
  OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
# Documents as each kind of package wants them.
set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_CURRENT_SOURCE_DIR}/stage-documents.cmake)
set(CPACK_STAGER_SOURCE ${PROJECT_SOURCE_DIR})

# --- deb ---

set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE ${STAGER_RELEASE})
set(CPACK_DEBIAN_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION "${description}")
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
# ssh is for the login of the agent's postcheck, too late a place to miss it.
set(CPACK_DEBIAN_PACKAGE_DEPENDS
  "systemd | systemd-sysusers, systemd | systemd-tmpfiles, openssh-client, ca-certificates")
set(CPACK_DEBIAN_COMPRESSION_TYPE xz)
string(REPLACE ";" "\n" conffiles "${config_files}")
file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/deb/conffiles "${conffiles}\n")
foreach(script postinst prerm postrm)
  configure_file(deb/${script} deb/${script} COPYONLY)
endforeach()
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA
  ${CMAKE_CURRENT_BINARY_DIR}/deb/conffiles ${CMAKE_CURRENT_BINARY_DIR}/deb/postinst
  ${CMAKE_CURRENT_BINARY_DIR}/deb/prerm ${CMAKE_CURRENT_BINARY_DIR}/deb/postrm)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)

# --- rpm ---

set(CPACK_RPM_FILE_NAME RPM-DEFAULT)
set(CPACK_RPM_PACKAGE_RELEASE ${STAGER_RELEASE})
set(CPACK_RPM_PACKAGE_RELEASE_DIST ON)
set(CPACK_RPM_PACKAGE_LICENSE Apache-2.0)
set(CPACK_RPM_PACKAGE_GROUP "System Environment/Daemons")
set(CPACK_RPM_PACKAGE_VENDOR "The stager maintainers")
set(CPACK_RPM_PACKAGE_SUMMARY "Move a running Linux server to another machine")
set(CPACK_RPM_PACKAGE_DESCRIPTION "${description}")
set(CPACK_RPM_PACKAGE_REQUIRES "openssh-clients, ca-certificates")
set(CPACK_RPM_PACKAGE_REQUIRES_POST systemd)
set(CPACK_RPM_PACKAGE_REQUIRES_PREUN systemd)
set(CPACK_RPM_PACKAGE_REQUIRES_POSTUN systemd)
set(CPACK_RPM_PACKAGE_RELOCATABLE OFF)
set(CPACK_RPM_POST_INSTALL_SCRIPT_FILE ${CMAKE_CURRENT_SOURCE_DIR}/rpm/post)
set(CPACK_RPM_PRE_UNINSTALL_SCRIPT_FILE ${CMAKE_CURRENT_SOURCE_DIR}/rpm/preun)
set(CPACK_RPM_POST_UNINSTALL_SCRIPT_FILE ${CMAKE_CURRENT_SOURCE_DIR}/rpm/postun)
set(CPACK_RPM_CHANGELOG_FILE ${CMAKE_CURRENT_SOURCE_DIR}/rpm/changelog)
list(TRANSFORM config_files PREPEND "%config(noreplace) " OUTPUT_VARIABLE CPACK_RPM_USER_FILELIST)
list(APPEND CPACK_RPM_USER_FILELIST "%license /usr/share/licenses/stager/LICENSE")
# Directories that other packages own.
foreach(dir /etc /usr/bin /usr/sbin /usr/lib /usr/lib/systemd /usr/lib/systemd/system
    /usr/lib/sysusers.d /usr/lib/tmpfiles.d /usr/libexec /usr/share/bash-completion
    /usr/share/bash-completion/completions /usr/share/doc /usr/share/licenses /usr/share/man
    /usr/share/man/man1 /usr/share/man/man5 /usr/share/man/man8)
  list(APPEND CPACK_RPM_EXCLUDE_FROM_AUTO_FILELIST_ADDITION ${dir})
endforeach()
# The same source makes the same package, bit for bit; SOURCE_DATE_EPOCH is the time.
set(CPACK_RPM_SPEC_MORE_DEFINE
"%define _buildhost reproducible
%define packager ${STAGER_MAINTAINER}
%define use_source_date_epoch_as_buildtime 1
%define clamp_mtime_to_source_date_epoch 1
%define _build_id_links none
%define _binary_payload w9.xzdio")

include(CPack)
