/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * transport/keystream.h - AES in counter mode for a caller that asks for 16 bytes at a time.
 *
 * libssh2 hands libcrypto one block of a packet after the other.  In counter mode the key
 * stream does not depend on the data, so it can be made ahead, some KiB in one call, and a
 * block costs an exclusive or.  This is a provider of libcrypto (provider-base(7)) built into
 * the program; the ciphers behind it are libcrypto's own.
 *
 * Measured with libcrypto 3.0, AES instructions, aes128-ctr in blocks of 16 bytes: 1.0 ns a
 * byte without it, 0.3 with it; in one call 0.1.
 */
#include "common/error.h"

/*
 * From now on whoever asks this process's libcrypto for AES-128-CTR, AES-192-CTR or
 * AES-256-CTR gets them from here.  Once in a process, before a second thread uses libcrypto.
 * -EOPNOTSUPP: a libcrypto before 3.0, or one that is to use certified ciphers only (FIPS);
 * -EIO: libcrypto would not.  All goes on as before then, only slower.
 */
int tp_keystream_install(struct err *e) _must_check_;
