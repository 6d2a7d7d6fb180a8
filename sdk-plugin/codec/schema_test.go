package codec

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// The descriptor set stands in for protoc where it is not installed. After a
// change of plugin.proto, run `go generate ./sdk-plugin/codec`.
//
//go:generate protoc -I ../../schemas -I testdata/proto --include_imports -otestdata/proto/plugin.binpb plugin.proto cloudevents.proto

func readSet(t testing.TB, path string) *descriptorpb.FileDescriptorSet {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	set := new(descriptorpb.FileDescriptorSet)
	if err := proto.Unmarshal(b, set); err != nil {
		t.Fatal(err)
	}
	return set
}

// schema returns the message descriptors of plugin.proto and cloudevents.proto by
// full name.
func schema(t testing.TB) func(name string) protoreflect.MessageDescriptor {
	t.Helper()
	files, err := protodesc.NewFiles(readSet(t, "testdata/proto/plugin.binpb"))
	if err != nil {
		t.Fatal(err)
	}
	return func(name string) protoreflect.MessageDescriptor {
		t.Helper()
		d, err := files.FindDescriptorByName(protoreflect.FullName(name))
		if err != nil {
			t.Fatal(err)
		}
		return d.(protoreflect.MessageDescriptor)
	}
}

func TestDescriptorSetIsCurrent(t *testing.T) {
	protoc, err := exec.LookPath("protoc")
	if err != nil {
		t.Skip("protoc is not installed: schemas/plugin.proto was not compared with testdata/proto/plugin.binpb")
	}
	out := filepath.Join(t.TempDir(), "plugin.binpb")
	cmd := exec.Command(protoc, "-I", "../../schemas", "-I", "testdata/proto", "--include_imports",
		"--descriptor_set_out="+out, "plugin.proto", "cloudevents.proto")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	for _, name := range []string{"plugin.proto", "cloudevents.proto"} { // not Google's, which differ by version of protoc
		if !proto.Equal(fileOf(t, out, name), fileOf(t, "testdata/proto/plugin.binpb", name)) {
			t.Errorf("%s changed: run `go generate ./sdk-plugin/codec`", name)
		}
	}
}

func fileOf(t *testing.T, set, name string) *descriptorpb.FileDescriptorProto {
	t.Helper()
	for _, f := range readSet(t, set).File {
		if f.GetName() == name {
			return f
		}
	}
	t.Fatalf("%s has no %s", set, name)
	return nil
}

// TestCloudEventIsTheStandardOne compares our CloudEvent with that of the
// CloudEvents protobuf format, field by field.
func TestCloudEventIsTheStandardOne(t *testing.T) {
	find := schema(t)
	for _, name := range []string{"CloudEvent", "CloudEvent.CloudEventAttributeValue"} {
		ours, theirs := find("tributary.plugin.v1."+name), find("io.cloudevents.v1."+name)
		for i := range theirs.Fields().Len() {
			want := theirs.Fields().Get(i)
			got := ours.Fields().ByNumber(want.Number())
			if want.Name() == "proto_data" {
				if got != nil || !ours.ReservedRanges().Has(want.Number()) {
					t.Errorf("%s.proto_data must be reserved", name)
				}
				continue
			}
			if got == nil || got.Name() != want.Name() || got.Kind() != want.Kind() || got.Cardinality() != want.Cardinality() ||
				got.IsMap() != want.IsMap() {
				t.Errorf("%s: field %d is %v, the standard says %v", name, want.Number(), got, want)
			}
		}
		if ours.Fields().Len() > theirs.Fields().Len() {
			t.Errorf("%s has fields that the standard has not", name)
		}
	}
}
