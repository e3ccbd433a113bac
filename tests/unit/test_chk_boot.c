/* SPDX-License-Identifier: Apache-2.0 */
/* Drivers in the kernel and in the initramfs, of every form that an initramfs has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "checks/initramfs.h"
#include "checks/unpack.h"
#include "tests/unit/chk_rows.h"

/* A member of a cpio archive in the "newc" form. */
static void put_member(struct buf *b, const char *name, const char *content, size_t n)
{
	assert_int_equal(buf_printf(b, "070701%08x%08x%08x%08x%08x%08x%08zx%08x%08x%08x%08x%08zx%08x",
				    1, 0100644, 0, 0, 1, 0, n, 0, 0, 0, 0, strlen(name) + 1, 0), 0);
	assert_int_equal(buf_put(b, name, strlen(name) + 1), 0);
	while (buf_len(b) % 4)
		assert_int_equal(buf_put_u8(b, 0), 0);
	assert_int_equal(buf_put(b, content, n), 0);
	while (buf_len(b) % 4)
		assert_int_equal(buf_put_u8(b, 0), 0);
}

/* An archive of names (NULL-terminated); big: each has some content. */
static void put_archive(struct buf *b, const char *const *names, bool big)
{
	static char content[300001];

	for (; *names; names++)
		put_member(b, *names, content, big ? sizeof(content) : 0);
	put_member(b, "TRAILER!!!", "", 0);
}

static const char *const virtio[] = {
	"etc/modules", "usr/lib/modules/6.1/kernel/drivers/block/virtio_blk.ko.xz",
	"usr/lib/modules/6.1/kernel/drivers/virtio/virtio-pci.ko", "virtio_scsi.ko.zst", NULL,
};
static const char *const other[] = {
	"kernel/x86/microcode/GenuineIntel.bin", "lib/virtio_blk.kox", "lib/xvirtio_blk.ko",
	"lib/virtio_blk", NULL,
};

/* The image packed by command in place; false: there is no such program. */
static bool pack(struct fixture *f, const char *path, const char *command)
{
	char line[256];

	snprintf(line, sizeof(line), "%s <%s/%s >%s/packed 2>/dev/null && mv %s/packed %s/%s", command,
		 f->dir, path, f->dir, f->dir, f->dir, path);
	return system(line) == 0;
}

static int find(struct fixture *f, const char *path, unsigned char found[3], struct err *e)
{
	static const char *const wanted[] = { "virtio_blk", "virtio_pci", "nvme", NULL };
	_cleanup_close_ int fd = openat(f->root.fd, path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	memset(found, 0, 3);
	return chk_initramfs_find(fd, wanted, found, INT64_MAX, e);
}

static void every_form_of_image_is_read(void **state)
{
	static const char *const commands[] = {
		"cat", "gzip", "xz --check=crc32", "zstd -q", "zstd -q -19", "lz4 -q -l", "lz4 -q -l -9", "lzma",
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		/* With and without a plain archive in front. */
		for (unsigned early = 0; early < 2; early++) {
			_cleanup_(buf_fini) struct buf b = BUF_INIT, front = BUF_INIT;
			unsigned char found[3];
			struct err e = { 0 };

			put_archive(&b, virtio, true);
			fixture_bytes(f, "image", b.p, buf_len(&b));
			if (!pack(f, "image", commands[i])) {
				print_message("no %s here\n", commands[i]);
				continue;
			}
			if (early) {
				put_archive(&front, other, true);
				for (size_t k = 0; k < 700; k++)
					assert_int_equal(buf_put_u8(&front, 0), 0);
				assert_int_equal(chk_read(&f->root, "image", &b, &e), 0);
				assert_int_equal(buf_put_bytes(&front, buf_view(&b)), 0);
				fixture_bytes(f, "image", front.p, buf_len(&front));
			}
			if (find(f, "image", found, &e) < 0)
				fail_msg("%s, %u: %s", commands[i], early, e.text);
			assert_true(found[0] && found[1] && !found[2]);
		}
	}
}

static void what_is_no_image_is_refused(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
		int code;
	} rows[] = {
		{ "", 0, -EBADMSG },
		{ "\0\0\0\0", 4, -EBADMSG },
		{ "hello", 5, -EMEDIUMTYPE },
		{ "070701", 6, -EBADMSG },
		{ "\x89LZO\0\r\n\x1a\n and more", 18, -EMEDIUMTYPE },
		{ "070701zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz", 110, -EBADMSG },
	};
	_cleanup_(buf_fini) struct buf b = BUF_INIT;
	struct fixture *f = *state;
	unsigned char found[3];
	struct err e = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		int r;

		fixture_bytes(f, "image", rows[i].bytes, rows[i].n);
		r = find(f, "image", found, &e);
		if (r != rows[i].code)
			fail_msg("row %zu: %d %s", i, r, e.text);
	}
	/* Cut anywhere, it is damaged, or all there is was seen. */
	put_archive(&b, other, false);
	for (size_t n = 1; n < buf_len(&b); n += 7) {
		fixture_bytes(f, "image", b.p, n);
		(void)!find(f, "image", found, &e);
		assert_false(found[0] || found[1]);
	}
	fixture_bytes(f, "image", b.p, 150);
	assert_int_equal(find(f, "image", found, &e), -EBADMSG);
}

static void the_time_is_bounded(void **state)
{
	_cleanup_(buf_fini) struct buf b = BUF_INIT;
	static const char *const wanted[] = { "none", NULL };
	struct fixture *f = *state;
	unsigned char found[1] = { 0 };
	struct err e = { 0 };
	int fd;

	put_archive(&b, virtio, true);
	fixture_bytes(f, "image", b.p, buf_len(&b));
	fd = openat(f->root.fd, "image", O_RDONLY | O_CLOEXEC);
	assert_int_equal(chk_initramfs_find(fd, wanted, found, 0, &e), -ETIME);
	close(fd);
}

#define KERNEL { "proc/sys/kernel/osrelease", "6.1\n" }
#define DEP(text) { "lib/modules/6.1/modules.dep", text }
#define MODULES "kernel/drivers/net/virtio_net.ko: x\nkernel/drivers/block/virtio_blk.ko.xz:\n"
#define CORE { "lib/modules/6.1/modules.builtin", "kernel/drivers/virtio/virtio.ko\nkernel/drivers/virtio/virtio_ring.ko\n" }

static void the_kernel_has_the_drivers_or_not(void **state)
{
	static const struct chk_case cases[] = {
		{ "VIRTIO", CHK_OK, "", "has what a KVM target needs",
		  { KERNEL, DEP(MODULES "kernel/drivers/virtio/virtio_pci.ko: y\n"), CORE } },
		{ "VIRTIO", CHK_ERROR, "SMS.0207", "lacks virtio_pci", { KERNEL, DEP(MODULES) } },
		{ "VIRTIO", CHK_OK, "", "has what", { KERNEL, DEP(MODULES),
		  { "lib/modules/6.1/modules.builtin", "kernel/drivers/virtio/virtio_pci.ko\n" } } },
		/* Without a list of what is built in the configuration says it. */
		{ "VIRTIO", CHK_OK, "", "has what",
		  { KERNEL, DEP(MODULES), { "boot/config-6.1", "#\nCONFIG_VIRTIO_PCI=y\nCONFIG_X=m\n" } } },
		{ "VIRTIO", CHK_ERROR, "SMS.0207", "lacks virtio_pci",
		  { KERNEL, DEP(MODULES), { "boot/config-6.1", "# CONFIG_VIRTIO_PCI is not set\nCONFIG_VIRTIO_PCI_LIB=y\n" } } },
		/* SCSI will do in place of the block driver. */
		{ "VIRTIO", CHK_OK, "", "has what",
		  { KERNEL, { "boot/config-6.1", "CONFIG_VIRTIO_PCI=y\nCONFIG_SCSI_VIRTIO=y\nCONFIG_VIRTIO_NET=y\n" } } },
		{ "VIRTIO", CHK_ERROR, "SMS.0207", "lacks virtio_pci virtio_blk virtio_net",
		  { KERNEL, DEP("kernel/xvirtio_pci.ko: \nkernel/virtio_pci.kox:\n") } },
		{ "VIRTIO", CHK_WARN, "", "modules.dep", { KERNEL }, .untold = true },
		{ "VIRTIO", CHK_WARN, "", "no kernel is installed", { { "etc", DIRECTORY } }, .untold = true },

		{ "INITRAMFS", CHK_ERROR, "SMS.6563", "no initramfs of the kernel 6.1", { KERNEL, DEP(MODULES) } },
		{ "INITRAMFS", CHK_WARN, "", "/boot/initrd.img-6.1: it is compressed in a way",
		  { KERNEL, DEP(MODULES), { "boot/initrd.img-6.1", "nonsense" } }, .untold = true },
		{ "INITRAMFS", CHK_WARN, "", "modules.dep", { KERNEL, { "boot/initrd.img-6.1", "nonsense" } },
		  .untold = true },
		{ "INITRAMFS", CHK_WARN, "", "no kernel is installed", { { "etc", DIRECTORY } }, .untold = true },
		{ "INITRAMFS", CHK_WARN, "", "/boot/initrd.img-6.1", { KERNEL, DEP(MODULES),
		  { "boot/initrd.img-6.1", "->initrd.img-6.1" } }, .untold = true },
	};

	run_cases(*state, cases, ARRAY_SIZE(cases));
}

static void the_image_has_the_drivers_or_not(void **state)
{
	static const char *const pci_only[] = { "virtio_pci.ko", NULL };
	static const char *const scsi[] = { "virtio_pci.ko", "virtio_scsi.ko.gz", NULL };
	static const char *const blk_only[] = { "virtio_blk.ko", NULL };
#define ALL DEP(MODULES "x/virtio_pci.ko:\nx/virtio_scsi.ko:\n")
	static const struct {
		const char *const *names;
		const char *path;
		struct chk_case c;
	} rows[] = {
		{ virtio, "boot/initrd.img-6.1", { "INITRAMFS", CHK_OK, "", "holds the virtio drivers", { KERNEL, ALL, CORE } } },
		{ virtio, "boot/initramfs-6.1.img", { "INITRAMFS", CHK_OK, "", "/boot/initramfs-6.1.img", { KERNEL, ALL, CORE } } },
		{ virtio, "boot/initrd-6.1", { "INITRAMFS", CHK_OK, "", "/boot/initrd-6.1", { KERNEL, ALL, CORE } } },
		{ scsi, "boot/initrd-6.1.img", { "INITRAMFS", CHK_OK, "", "holds", { KERNEL, ALL, CORE } } },
		{ pci_only, "boot/initrd-6.1", { "INITRAMFS", CHK_WARN, "SMS.6563", "lacks virtio_blk", { KERNEL, ALL, CORE } } },
		{ blk_only, "boot/initrd-6.1", { "INITRAMFS", CHK_WARN, "SMS.6563", "lacks virtio_pci", { KERNEL, ALL, CORE } } },
		{ other, "boot/initrd-6.1", { "INITRAMFS", CHK_WARN, "SMS.6563", "lacks virtio_pci", { KERNEL, ALL, CORE } } },
		/* The core as modules must be there, too; what is built in need not. */
		{ virtio, "boot/initrd-6.1", { "INITRAMFS", CHK_WARN, "SMS.6563", "lacks virtio",
		  { KERNEL, DEP(MODULES "x/virtio_pci.ko:\nx/virtio.ko:\n") } } },
		{ other, "boot/initrd-6.1", { "INITRAMFS", CHK_OK, "", "not built in",
		  { KERNEL, { "boot/config-6.1", "CONFIG_VIRTIO=y\nCONFIG_VIRTIO_PCI=y\nCONFIG_VIRTIO_BLK=y\n" } } } },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(buf_fini) struct buf b = BUF_INIT;
		struct chk_answer a;

		case_plant(f, &rows[i].c);
		put_archive(&b, rows[i].names, false);
		fixture_bytes(f, rows[i].path, b.p, buf_len(&b));
		a = case_answer(f, &rows[i].c);
		case_judge(&rows[i].c, i, &a);
	}
}

static void the_running_kernel_may_carry_its_configuration(void **state)
{
	static const struct chk_case c = { "VIRTIO", CHK_OK, "", "has what", {
		KERNEL, { "proc/config.gz", "CONFIG_VIRTIO_PCI=y\nCONFIG_VIRTIO_BLK=y\nCONFIG_VIRTIO_NET=y\n" } } };
	struct fixture *f = *state;
	struct chk_answer a;

	case_plant(f, &c);
	assert_true(pack(f, "proc/config.gz", "gzip"));
	a = case_answer(f, &c);
	case_judge(&c, 0, &a);
}

int main(void)
{
#define BOOT_TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		BOOT_TEST(every_form_of_image_is_read),
		BOOT_TEST(what_is_no_image_is_refused),
		BOOT_TEST(the_time_is_bounded),
		BOOT_TEST(the_kernel_has_the_drivers_or_not),
		BOOT_TEST(the_image_has_the_drivers_or_not),
		BOOT_TEST(the_running_kernel_may_carry_its_configuration),
	};
#undef BOOT_TEST

	return cmocka_run_group_tests(tests, NULL, NULL);
}
