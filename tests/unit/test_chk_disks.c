/* SPDX-License-Identifier: Apache-2.0 */
/* Disks, partitions, volume groups: what is written on them, and how they lie on each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "checks/lvm_text.h"
#include "tests/unit/chk_rows.h"

/* A disk of 1 GiB or so, and what udev has written down about it. */
#define DISK(name, number, about)                                         \
	{ "sys/block/" name "/size", "2097152\n" },                       \
	{ "sys/block/" name "/dev", number "\n" },                        \
	{ "run/udev/data/b" number, about }
#define PART(disk, part, index, number, about)                            \
	{ "sys/block/" disk "/" part "/partition", index "\n" },          \
	{ "sys/block/" disk "/" part "/size", "1048576\n" },              \
	{ "sys/block/" disk "/" part "/dev", number "\n" },               \
	{ "run/udev/data/b" number, about }
#define MBR "E:ID_PART_TABLE_TYPE=dos\n"
#define GPT "E:ID_PART_TABLE_TYPE=gpt\n"
#define FS(type) "E:ID_FS_TYPE=" type "\n"
#define ROOT_ON(number) { "proc/self/mountinfo", "20 1 " number " / / rw - ext4 /dev/x rw\n" }

static void what_sms_cannot_take_from_disks_is_said(void **state)
{
	static const struct chk_case cases[] = {
		{ "DISK_INFO", CHK_OK, "", "on /dev/sda, the first of 2",
		  { DISK("sda", "8:0", MBR), PART("sda", "sda1", "1", "8:1", FS("ext4")),
		    DISK("sdb", "8:16", GPT), ROOT_ON("8:1") } },
		{ "DISK_INFO", CHK_ERROR, "SMS.6532", "on /dev/sdb, which is not the first disk (/dev/sda)",
		  { DISK("sda", "8:0", MBR), PART("sdb", "sdb1", "1", "8:17", FS("ext4")),
		    DISK("sdb", "8:16", GPT), ROOT_ON("8:17") } },
		{ "DISK_INFO", CHK_OK, "", "on /dev/sdb, the first of 2",
		  { DISK("sdaa", "65:160", MBR), DISK("sdb", "8:16", GPT),
		    PART("sdb", "sdb1", "1", "8:17", FS("ext4")), ROOT_ON("8:17") } },
		{ "DISK_INFO", CHK_WARN, "SMS.6537", "larger than 1 TiB",
		  { { "sys/block/sda/size", "2147483649\n" }, { "sys/block/sda/dev", "8:0\n" }, ROOT_ON("8:0") } },
		{ "DISK_INFO", CHK_ERROR, "SMS.6519", "has no disk", { { "sys/block", DIRECTORY }, ROOT_ON("8:1") } },
		/* Not disks of the host. */
		{ "DISK_INFO", CHK_ERROR, "SMS.6519", "has no disk",
		  { DISK("zram0", "252:0", ""), DISK("loop3", "7:3", ""), DISK("sr0", "11:0", ""), ROOT_ON("8:1"),
		    { "sys/block/sdz/size", "0\n" }, { "sys/block/sdy/size", "5\n" }, { "sys/block/sdy/removable", "1\n" } } },
		{ "DISK_INFO", CHK_ERROR, "SMS.6519", "no disk of this host holds /",
		  { DISK("sda", "8:0", MBR), ROOT_ON("9:9") } },
		{ "DISK_INFO", CHK_WARN, "", "mountinfo", { DISK("sda", "8:0", MBR) }, .untold = true },
		{ "DISK_INFO", CHK_WARN, "", "/sys/block", { { "etc", DIRECTORY } }, .untold = true },
		{ "DISK_INFO", CHK_ERROR, "SMS.6519", "/sys/block", { { "etc", DIRECTORY } }, .untold = true,
		  .live = true },

		{ "PARTITION_STYLE", CHK_OK, "", "MBR or GPT",
		  { DISK("vda", "253:0", MBR), DISK("nvme0n1", "259:0", GPT),
		    DISK("vdb", "253:16", FS("LVM2_member")), ROOT_ON("9:9") } },
		{ "PARTITION_STYLE", CHK_ERROR, "SMS.6508", "/dev/vdb has a partition table of type sun",
		  { DISK("vda", "253:0", MBR), DISK("vdb", "253:16", "E:ID_PART_TABLE_TYPE=sun\n") } },
		{ "PARTITION_STYLE", CHK_ERROR, "SMS.6508", "the system disk /dev/vda has no partition table",
		  { DISK("vda", "253:0", FS("ext4")), ROOT_ON("253:0") } },
		{ "PARTITION_STYLE", CHK_WARN, "SMS.6508", "/dev/vdb holds a file system without",
		  { DISK("vda", "253:0", MBR), DISK("vdb", "253:16", FS("xfs")) } },
		{ "PARTITION_STYLE", CHK_WARN, "", "read the partition table of /dev/vda: No such file",
		  { { "sys/block/vda/size", "8\n" } }, .untold = true },
		{ "PARTITION_STYLE", CHK_WARN, "", "/sys/block", { { "etc", DIRECTORY } }, .untold = true },

		{ "RAW_DEVICES", CHK_OK, "", "no raw device",
		  { DISK("sda", "8:0", MBR), PART("sda", "sda1", "1", "8:1", FS("swap")) } },
		{ "RAW_DEVICES", CHK_ERROR, "SMS.6518", "/dev/raw/raw1",
		  { DISK("sda", "8:0", MBR), { "sys/class/raw/rawctl/dev", "" }, { "sys/class/raw/raw1/dev", "" } } },
		{ "RAW_DEVICES", CHK_ERROR, "SMS.6518", "/dev/sda1",
		  { DISK("sda", "8:0", MBR), PART("sda", "sda1", "1", "8:1", FS("oracleasm")) } },
		{ "RAW_DEVICES", CHK_WARN, "SMS.6518", "/dev/sda1 holds nothing that is known",
		  { DISK("sda", "8:0", MBR), PART("sda", "sda1", "1", "8:1", "") } },
		{ "RAW_DEVICES", CHK_WARN, "SMS.6518", "/dev/sdb holds nothing", { DISK("sdb", "8:16", "") } },
		{ "RAW_DEVICES", CHK_WARN, "", "/sys/block", { { "etc", DIRECTORY } }, .untold = true },

		{ "ENCRYPTION", CHK_OK, "", "no disk is encrypted", { DISK("sda", "8:0", MBR) } },
		{ "ENCRYPTION", CHK_ERROR, "", "/dev/sda1;/dev/mapper/home",
		  { DISK("sda", "8:0", MBR), PART("sda", "sda1", "1", "8:1", FS("crypto_LUKS")),
		    { "sys/block/sdm-0/x", "" }, { "sys/block/sdm-0/size", "8\n" },
		    { "sys/block/sdm-0/dm/name", "home\n" }, { "sys/block/sdm-0/dm/uuid", "CRYPT-LUKS2-12-home\n" },
		    { "sys/block/sdm-0/slaves/sda1", "" } } },
		{ "ENCRYPTION", CHK_WARN, "", "/sys/block", { { "etc", DIRECTORY } }, .untold = true },

		{ "SOFTWARE_RAID", CHK_OK, "", "no software RAID", { DISK("sda", "8:0", MBR) } },
		{ "SOFTWARE_RAID", CHK_ERROR, "", "/dev/md0",
		  { DISK("md0", "9:0", FS("ext4")), { "sys/block/md0/slaves/sda1", "" } } },
		{ "SOFTWARE_RAID", CHK_WARN, "", "/sys/block", { { "etc", DIRECTORY } }, .untold = true },

		{ "VOLUME_GROUPS", CHK_OK, "", "no volume groups", { DISK("sda", "8:0", MBR) } },
		{ "VOLUME_GROUPS", CHK_WARN, "", "volume group my-vg cannot be read",
		  { DISK("sda", "8:0", FS("LVM2_member")), { "sys/block/dm-0/size", "8\n" },
		    { "sys/block/dm-0/dm/name", "my--vg-root\n" }, { "sys/block/dm-0/slaves/sda", "" },
		    { "sys/block/dm-0/dm/uuid", "LVM-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\n" } },
		  .untold = true },
		{ "VOLUME_GROUPS", CHK_WARN, "", "/sys/block", { { "etc", DIRECTORY } }, .untold = true },
	};

	run_cases(*state, cases, ARRAY_SIZE(cases));
}

static void too_many_disks_are_told(void **state)
{
	static const struct chk_case c = { "DISK_INFO", CHK_ERROR, "SMS.6519", "has 24 disks" };
	struct fixture *f = *state;
	struct chk_answer a;

	for (unsigned i = 0; i < 24; i++) {
		char path[64];

		snprintf(path, sizeof(path), "sys/block/sd%c/size", 'a' + i);
		fixture_write(f, path, "8\n");
	}
	a = case_answer(f, &c);
	case_judge(&c, 0, &a);
}

static struct chk_facts *facts_of(struct fixture *f, const struct fake *k)
{
	struct fake fake = k ? *k : (struct fake){ .space = { 1000, 400, 300, 50, 20, 512 } };
	struct chk_sys sys = fake_sys(&fake);
	struct chk_facts *facts = NULL;
	struct err e = { 0 };

	if (chk_facts_collect(&f->root, &sys, &facts, &e) < 0)
		fail_msg("%s", e.text);
	return facts;
}

static void stacks_are_followed_down_to_the_disk(void **state)
{
	/* / on LVM on LUKS on a multipath device's partition; /boot on its first partition. */
	static const struct chk_case c = { "", 0, "", "", {
		DISK("sda", "8:0", GPT), DISK("sdb", "8:16", GPT),
		{ "sys/block/dm-0/dm/uuid", "mpath-3600\n" }, { "sys/block/dm-0/dm/name", "mpatha\n" },
		{ "sys/block/dm-0/slaves/sda", "" }, { "sys/block/dm-0/slaves/sdb", "" },
		{ "run/udev/data/b253:0", GPT }, { "sys/block/dm-0/dev", "253:0\n" } } };
	static const char *const more[][2] = {
		{ "sys/block/dm-0/size", "4096\n" },
		{ "sys/block/dm-1/size", "2048\n" }, { "sys/block/dm-1/dev", "253:1\n" },
		{ "sys/block/dm-1/dm/uuid", "part1-mpath-3600\n" },
		{ "sys/block/dm-1/dm/name", "mpatha1\n" }, { "sys/block/dm-1/slaves/dm-0", "" },
		{ "run/udev/data/b253:1", FS("ext4") "E:ID_FS_UUID=boot-uuid\n" },
		{ "sys/block/dm-2/size", "2048\n" }, { "sys/block/dm-2/dev", "253:2\n" },
		{ "sys/block/dm-2/dm/uuid", "part2-mpath-3600\n" },
		{ "sys/block/dm-2/dm/name", "mpatha2\n" }, { "sys/block/dm-2/slaves/dm-0", "" },
		{ "sys/block/dm-3/size", "2048\n" }, { "sys/block/dm-3/dev", "253:3\n" },
		{ "sys/block/dm-3/dm/uuid", "CRYPT-LUKS1-0-x\n" },
		{ "sys/block/dm-3/dm/name", "x\n" }, { "sys/block/dm-3/slaves/dm-2", "" },
		{ "sys/block/dm-4/size", "2048\n" }, { "sys/block/dm-4/dev", "253:4\n" },
		{ "sys/block/dm-4/dm/uuid", "LVM-" "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\n" },
		{ "sys/block/dm-4/dm/name", "v--g-l--v\n" }, { "sys/block/dm-4/slaves/dm-3", "" },
		{ "proc/self/mountinfo", "20 1 253:4 / / rw - ext4 /dev/mapper/v--g-l--v rw\n"
					 "21 20 253:1 / /boot rw - ext4 /dev/mapper/mpatha1 rw\n" },
	};
	struct fixture *f = *state;
	struct chk_facts *facts;
	const struct chk_disk *d;

	case_plant(f, &c);
	for (size_t i = 0; i < ARRAY_SIZE(more); i++)
		fixture_write(f, more[i][0], more[i][1]);
	facts = facts_of(f, NULL);
	assert_int_equal(facts->n_disks, 1);
	d = &facts->disks[0];
	assert_string_equal(d->name, "/dev/mapper/mpatha");
	assert_string_equal(d->style_name, "GPT");
	assert_string_equal(d->device_use, "OS");
	assert_true(d->os_disk);
	assert_int_equal(d->size, 4096 * 512);
	assert_int_equal(d->n_parts, 2);
	assert_string_equal(d->parts[0].name, "/dev/mapper/mpatha1");
	assert_string_equal(d->parts[0].device_use, "BOOT");
	assert_string_equal(d->parts[0].mount_point, "/boot");
	assert_string_equal(d->parts[0].uuid, "boot-uuid");
	assert_int_equal(d->parts[0].index, 1);
	assert_int_equal(d->parts[0].used_size, 600);
	assert_int_equal(d->parts[0].inode_nums, 50);
	assert_int_equal(d->parts[1].index, 2);
	assert_string_equal(facts->multipath, "/dev/mapper/mpatha");
	assert_string_equal(facts->encrypted, "/dev/mapper/x");
	assert_int_equal(facts->n_vgs, 1);
	assert_string_equal(facts->vgs[0].name, "v-g");
	assert_string_equal(facts->vgs[0].components, "/dev/mapper/x");
	assert_string_equal(facts->vgs[0].lvs[0].name, "/dev/v-g/l-v");
	assert_string_equal(facts->vgs[0].lvs[0].mount_point, "/");
	assert_false(facts->vgs[0].size_told);
	chk_facts_free(facts);
}

static void superblocks_are_read_where_devices_can_be(void **state)
{
	static const struct chk_case c = { "", 0, "", "", {
		{ "sys/block/cciss!c0d0/size", "2048\n" }, { "sys/block/cciss!c0d0/dev", "104:0\n" } } };
	static uint8_t disk[1 << 20];
	struct fixture *f = *state;
	struct chk_facts *facts;
	uint8_t *super = disk + 1024;

	/* The few fields of an ext4 superblock that make one. */
	memset(disk, 0, sizeof(disk));
	super[0] = 64;                       /* inodes */
	super[4] = 0, super[5] = 4;          /* 1024 blocks */
	super[20] = 1;                       /* first data block */
	super[0x38] = 0x53, super[0x39] = 0xEF;
	super[0x4C] = 1;                     /* revision with fields of its own */
	super[0x58] = 0, super[0x59] = 1;    /* inodes of 256 bytes */
	super[0x60] = 0x40;                  /* extents: ext4 */
	super[0x5C] = 4;                     /* with a journal */
	memset(super + 0x68, 0x11, 16);
	case_plant(f, &c);
	fixture_bytes(f, "dev/cciss/c0d0", disk, sizeof(disk));
	facts = facts_of(f, NULL);
	assert_int_equal(facts->n_disks, 1);
	assert_string_equal(facts->disks[0].name, "/dev/cciss/c0d0");
	assert_int_equal(facts->disks[0].style, CHK_STYLE_NONE);
	assert_int_equal(facts->disks[0].n_parts, 1);
	assert_string_equal(facts->disks[0].parts[0].file_system, "ext4");
	assert_string_equal(facts->disks[0].parts[0].uuid, "11111111-1111-1111-1111-111111111111");
	assert_int_equal(facts->disks[0].parts[0].inode_size, 256);
	assert_int_equal(facts->disks[0].parts[0].block_size, 1024);
	chk_facts_free(facts);

	/* A protective entry of type 0x83 and the signature make an MBR. */
	memset(disk, 0, sizeof(disk));
	disk[446 + 4] = 0x83;
	disk[446 + 8] = 8;
	disk[446 + 13] = 4;
	disk[510] = 0x55, disk[511] = 0xAA;
	fixture_bytes(f, "dev/cciss/c0d0", disk, sizeof(disk));
	facts = facts_of(f, NULL);
	assert_int_equal(facts->disks[0].style, CHK_STYLE_MBR);
	chk_facts_free(facts);
}

#define PV_ID "AAAAAA-AAAA-AAAA-AAAA-AAAA-AAAA-AAAAAA"
#define PV2_ID "BBBBBB-BBBB-BBBB-BBBB-BBBB-BBBB-BBBBBB"
#define VG_TEXT(name, id, seqno, more, lvs)                                           \
	"# a comment { \"\n" name " {\nid = \"" id "\"\nseqno = " seqno "\n"         \
	"status = [\"RESIZEABLE\", \"READ\"]\nextent_size = 8192\n"                   \
	"physical_volumes {\npv0 {\nid = \"" PV_ID "\"\nflags = []\npe_count = 100\n}\n" more \
	"}\n" lvs "}\ndescription = \"made } by \\\" hand\"\n"
#define PV2(flags) "pv1 {\nid = \"" PV2_ID "\"\nflags = [" flags "]\npe_count = 50 # x\n}\n"
#define LVS                                                                           \
	"logical_volumes {\n"                                                         \
	"root {\nid = \"CCCCCC-CCCC-CCCC-CCCC-CCCC-CCCC-CCCCCC\"\nstatus = [\"READ\", \"VISIBLE\"]\n" \
	"segment1 {\nstart_extent = 0\nextent_count = 10\ntype = \"striped\"\nstripes = [\n\"pv0\", 0\n]\n}\n" \
	"segment2 {\nstart_extent = 10\nextent_count = 8\ntype = \"striped\"\nstripes = [ \"pv0\", 10, \"pv1\", 0 ]\n}\n}\n" \
	"pool_tdata {\nid = \"x\"\nstatus = [\"READ\"]\nsegment1 {\nextent_count = 20\ntype = \"striped\"\nstripes = [\"pv1\", 4]\n}\n}\n" \
	"pool {\nid = \"y\"\nstatus = [\"READ\", \"VISIBLE\"]\nsegment1 {\nextent_count = 20\ntype = \"thin-pool\"\n}\n}\n" \
	"}\n"
#define VG_ID "GGGGGG-GGGG-GGGG-GGGG-GGGG-GGGG-GGGGGG"

static void metadata_is_understood(void **state)
{
	struct chk_mem m = { 0 };
	struct chk_lvm_vg vg;

	(void)state;
	assert_int_equal(chk_lvm_parse(VG_TEXT("my-vg", VG_ID, "7", PV2("\"MISSING\""), LVS), &m, &vg), 0);
	assert_string_equal(vg.name, "my-vg");
	assert_string_equal(vg.id, "GGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGG");
	assert_int_equal(vg.seqno, 7);
	assert_int_equal(vg.extent_bytes, 4 << 20);
	assert_int_equal(vg.n_pvs, 2);
	assert_int_equal(vg.pvs[0].extents, 100);
	assert_int_equal(vg.pvs[0].used_extents, 14);
	assert_false(vg.pvs[0].missing);
	assert_int_equal(vg.pvs[1].used_extents, 24);
	assert_true(vg.pvs[1].missing);
	assert_int_equal(vg.n_lvs, 3);
	assert_int_equal(vg.lvs[0].extents, 18);
	assert_true(vg.lvs[0].visible && vg.lvs[0].simple);
	assert_false(vg.lvs[1].visible);
	assert_false(vg.lvs[2].simple);
	chk_mem_fini(&m);
}

static void damaged_metadata_is_refused(void **state)
{
	static const char *const bad[] = {
		"", "vg", "vg {", "vg { id = \"x\" }", "vg { id = \"x\"\nextent_size = 8 } }",
		"vg { id = \"x\nextent_size = 8 }", "vg { id = [ { ] extent_size = 8 }",
		"vg { id = \"x\" extent_size = 8 } vg2 { id = \"x\" }", "{ }", "vg { = 8 }",
		"a{b{c{d{e{f{g{h{i{j{}}}}}}}}}}", "vg { id = [ \"x\"", "\"vg\" { }",
	};
	struct chk_mem m = { 0 };
	struct chk_lvm_vg vg;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (chk_lvm_parse(bad[i], &m, &vg) != -EBADMSG)
			fail_msg("row %zu: %s", i, bad[i]);
	chk_mem_fini(&m);
}

/* LVM's checksum: the usual polynomial, a start of its own, nothing at the end. */
static uint32_t lvm_crc(const uint8_t *p, size_t n)
{
	uint32_t crc = 0xf597a6cf;

	for (size_t i = 0; i < n; i++) {
		crc ^= p[i];
		for (unsigned k = 0; k < 8; k++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
	}
	return crc;
}

/* A physical volume with one metadata area of 64 KiB, the text at off of its ring. */
static void write_pv(struct fixture *f, const char *path, const char *id, const char *text,
		     size_t off)
{
	static uint8_t disk[128 << 10];
	_cleanup_close_ int fd = -1;
	uint8_t *label = disk + 512, *area = disk + 4096;
	size_t n = strlen(text), at = 0, size = 64 << 10;

	memset(disk, 0, sizeof(disk));
	memcpy(label, "LABELONE", 8);
	label[8] = 1;
	label[20] = 32;
	memcpy(label + 24, "LVM2 001", 8);
	for (const char *c = id; *c; c++)
		if (*c != '-')
			label[32 + at++] = (uint8_t)*c;
	le64_put(label + 72, 1 << 20); /* the data area, then none */
	le64_put(label + 104, 4096);   /* the metadata area, then none */
	le64_put(label + 112, size);
	le32_put(label + 16, lvm_crc(label + 20, 512 - 20)); /* libblkid looks at it */
	memcpy(area + 4, " LVM2 x[5A%r0N*>", 16);
	area[20] = 1;
	le64_put(area + 24, 4096);
	le64_put(area + 32, size);
	le64_put(area + 40, off);
	le64_put(area + 48, n);
	for (size_t i = 0; i < n; i++)
		area[off + i < size ? off + i : off + i - size + 512] = (uint8_t)text[i];
	fixture_bytes(f, path, disk, sizeof(disk));
	/* libblkid looks for LVM on nothing that could be a floppy disk. */
	fd = openat(f->root.fd, path, O_WRONLY | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, 2 << 20), 0);
}

static void volume_groups_are_read_from_their_disks(void **state)
{
	static const struct chk_case disks = { "", 0, "", "", {
		{ "sys/block/sda/size", "2048\n" }, { "sys/block/sda/dev", "8:0\n" },
		{ "sys/block/sdb/size", "2048\n" }, { "sys/block/sdb/dev", "8:16\n" },
		{ "sys/block/dm-0/size", "147456\n" }, { "sys/block/dm-0/dev", "253:0\n" },
		{ "sys/block/dm-0/dm/name", "my--vg-root\n" },
		{ "sys/block/dm-0/dm/uuid",
		  "LVM-" "GGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGG" "CCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCC\n" },
		{ "sys/block/dm-0/slaves/sda", "" }, { "sys/block/dm-0/slaves/sdb", "" },
		{ "run/udev/data/b253:0", FS("xfs") },
		{ "proc/self/mountinfo", "20 1 253:0 / / rw - xfs /dev/mapper/my--vg-root rw\n" } } };
	struct fixture *f = *state;
	struct chk_facts *facts;
	const struct chk_vg *vg;

	case_plant(f, &disks);
	/* The older text of the other disk does not count; this one wraps around its ring. */
	write_pv(f, "dev/sda", PV_ID, VG_TEXT("my-vg", VG_ID, "8", PV2(""), LVS), (64 << 10) - 300);
	write_pv(f, "dev/sdb", PV2_ID, VG_TEXT("my-vg", VG_ID, "7", PV2(""), ""), 512);
	facts = facts_of(f, NULL);
	assert_int_equal(facts->n_vgs, 1);
	vg = &facts->vgs[0];
	assert_true(vg->size_told);
	assert_false(vg->partial);
	assert_string_equal(vg->components, "/dev/sda;/dev/sdb");
	assert_int_equal(vg->size, UINT64_C(150) * (4 << 20));
	assert_int_equal(vg->free_size, UINT64_C(112) * (4 << 20));
	assert_int_equal(vg->n_lvs, 2);
	assert_string_equal(vg->lvs[0].name, "/dev/my-vg/root");
	assert_string_equal(vg->lvs[0].file_system, "xfs");
	assert_string_equal(vg->lvs[0].mount_point, "/");
	assert_string_equal(vg->lvs[0].device_use, "OS");
	assert_int_equal(vg->lvs[0].size, 18 * (4 << 20));
	assert_int_equal(vg->lvs[0].free_size, 300);
	assert_false(vg->lvs[0].thin);
	assert_true(vg->lvs[1].thin);
	assert_int_equal(facts->n_disks, 2);
	assert_string_equal(facts->disks[1].parts[0].device_use, "VOLUME_GROUP");
	assert_int_equal(facts->disks[1].used_size, 24 * (4 << 20));
	chk_facts_free(facts);
}

static void what_sms_cannot_take_from_groups_is_said(void **state)
{
	static const struct chk_case disks = { "", 0, "", "", {
		{ "sys/block/sda/size", "2048\n" }, { "sys/block/sdb/size", "2048\n" } } };
	static const struct {
		const char *text[2];
		struct chk_case c;
	} rows[] = {
		{ { VG_TEXT("one", VG_ID, "7", PV2(""), ""), VG_TEXT("one", VG_ID, "7", PV2(""), "") },
		  { "VOLUME_GROUPS", CHK_OK, "", "volume groups: 1, complete" } },
		{ { VG_TEXT("one", VG_ID, "7", PV2(""), ""), NULL },
		  { "VOLUME_GROUPS", CHK_ERROR, "SMS.1352", "a physical volume of the group one is missing" } },
		/* Metadata on one disk is enough. */
		{ { VG_TEXT("one", VG_ID, "7", PV2(""), ""), "" },
		  { "VOLUME_GROUPS", CHK_OK, "", "volume groups: 1, complete" } },
		{ { VG_TEXT("one", VG_ID, "7", PV2("\"MISSING\""), ""), VG_TEXT("one", VG_ID, "6", PV2(""), "") },
		  { "VOLUME_GROUPS", CHK_ERROR, "SMS.1352", "group one is missing" } },
		{ { VG_TEXT("one", VG_ID, "7", "", ""), VG_TEXT("one", "HHHHHH", "7", "", "") },
		  { "VOLUME_GROUPS", CHK_ERROR, "SMS.5111", "two volume groups are called one" } },
		{ { VG_TEXT("one", VG_ID, "7", PV2(""), LVS), VG_TEXT("one", VG_ID, "7", PV2(""), LVS) },
		  { "VOLUME_GROUPS", CHK_ERROR, "", "/dev/one/pool is thin" } },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct chk_answer a;

		case_plant(f, &disks);
		write_pv(f, "dev/sda", PV_ID, rows[i].text[0], 512);
		if (rows[i].text[1])
			write_pv(f, "dev/sdb", PV2_ID, rows[i].text[1], 512);
		a = case_answer(f, &rows[i].c);
		case_judge(&rows[i].c, i, &a);
	}
}

static void btrfs_is_told_with_its_mounted_subvolumes(void **state)
{
	static const struct chk_case c = { "", 0, "", "", {
		{ "sys/block", DIRECTORY }, { "sys/fs/btrfs/features/x", "" },
		{ "sys/fs/btrfs/u-u/label", "data\n" }, { "sys/fs/btrfs/u-u/nodesize", "16384\n" },
		{ "sys/fs/btrfs/u-u/sectorsize", "4096\n" },
		{ "sys/fs/btrfs/u-u/devices/sdb1/size", "2048\n" },
		{ "sys/fs/btrfs/u-u/allocation/data/bytes_used", "1000\n" },
		{ "sys/fs/btrfs/u-u/allocation/data/single", DIRECTORY },
		{ "sys/fs/btrfs/u-u/allocation/metadata/bytes_used", "200\n" },
		{ "sys/fs/btrfs/u-u/allocation/metadata/dup", DIRECTORY },
		{ "sys/fs/btrfs/u-u/allocation/global_rsv_size", "7\n" },
		{ "proc/self/mountinfo", "20 1 0:30 /@ /srv rw - btrfs /dev/sdb1 rw,subvolid=256,subvol=/@\n"
					 "21 1 0:31 /@ /other rw - btrfs /dev/sdc1 rw,subvolid=256,subvol=/@\n" } } };
	struct fixture *f = *state;
	struct chk_facts *facts;
	const struct chk_btrfs *b;

	case_plant(f, &c);
	facts = facts_of(f, NULL);
	assert_int_equal(facts->n_btrfs, 1);
	b = &facts->btrfs[0];
	assert_string_equal(b->uuid, "u-u");
	assert_string_equal(b->label, "data");
	assert_string_equal(b->device, "/dev/sdb1");
	assert_string_equal(b->mount_point, "/srv");
	assert_int_equal(b->size, 2048 * 512);
	assert_int_equal(b->used_size, 1200);
	assert_int_equal(b->node_size, 16384);
	assert_string_equal(b->data_profile, "single");
	assert_string_equal(b->metadata_profile, "dup");
	assert_string_equal(b->system_profile, "");
	assert_int_equal(b->n_subvolumes, 1);
	assert_string_equal(b->subvolumes[0].name, "/@");
	assert_int_equal(b->subvolumes[0].id, 300);
	assert_true(b->subvolumes[0].is_snapshot);
	chk_facts_free(facts);
}

int main(void)
{
#define DISK_TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		DISK_TEST(what_sms_cannot_take_from_disks_is_said),
		DISK_TEST(too_many_disks_are_told),
		DISK_TEST(stacks_are_followed_down_to_the_disk),
		DISK_TEST(superblocks_are_read_where_devices_can_be),
		cmocka_unit_test(metadata_is_understood),
		cmocka_unit_test(damaged_metadata_is_refused),
		DISK_TEST(volume_groups_are_read_from_their_disks),
		DISK_TEST(what_sms_cannot_take_from_groups_is_said),
		DISK_TEST(btrfs_is_told_with_its_mounted_subvolumes),
	};
#undef DISK_TEST

	return cmocka_run_group_tests(tests, NULL, NULL);
}
